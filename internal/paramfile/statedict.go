package paramfile

import (
	"fmt"
	"maps"
	"slices"

	"github.com/nlpodyssey/gopickle/types"
)

// stateKeys are the keys under which checkpoints keep a state dict.
var stateKeys = []string{"state_dict", "model_state_dict", "model", "net"}

// stateDict returns the tensors of a state dict by their names, and what its other
// entries are. The dict is v, or the entry of v under one of stateKeys, or the only entry
// that has tensors.
func stateDict(v any, o *Options) (tensors map[string]tensor, others map[string]string, err error) {
	dict, ok := entries(v)
	if !ok {
		return nil, nil, fmt.Errorf("it holds %s: expected a dict of tensors, such as torch.save(model.state_dict(), …) writes", describe(v))
	}
	var within []string
	for _, key := range slices.Sorted(maps.Keys(dict)) {
		if hasTensors(dict[key]) {
			within = append(within, key)
		}
	}
	chosen := ""
	for _, key := range stateKeys {
		if slices.Contains(within, key) {
			chosen = key
			break
		}
	}
	if chosen == "" && !hasTensors(v) {
		switch len(within) {
		case 0:
			return nil, nil, fmt.Errorf("no entry of it is a tensor: expected a dict of tensors, or one under %s", list(stateKeys))
		case 1:
			chosen = within[0]
		default:
			return nil, nil, fmt.Errorf("its entries %s hold tensors: expected a dict of tensors, or one under %s", list(within), list(stateKeys))
		}
	}
	if chosen != "" {
		others := slices.DeleteFunc(slices.Sorted(maps.Keys(dict)), func(key string) bool { return key == chosen })
		o.note("the tensors are those of entry %s; beside it are passed over: %s", chosen, list(others))
		dict, _ = entries(dict[chosen])
	}
	tensors = map[string]tensor{}
	for name, e := range dict {
		if t, ok := e.(*view); ok {
			tensors[name] = t.tensor()
			continue
		}
		if others == nil {
			others = map[string]string{}
		}
		others[name] = describe(e)
	}
	return tensors, others, nil
}

// hasTensors reports whether v is a dict with a tensor.
func hasTensors(v any) bool {
	dict, _ := entries(v)
	for _, e := range dict {
		if _, ok := e.(*view); ok {
			return true
		}
	}
	return false
}

// entries returns what a dict has under strings.
func entries(v any) (map[string]any, bool) {
	dict := map[string]any{}
	set := func(key, value any) {
		if name, ok := key.(string); ok {
			dict[name] = value
		}
	}
	switch v := v.(type) {
	case *types.Dict:
		for _, e := range *v {
			set(e.Key, e.Value)
		}
	case *types.OrderedDict:
		for key, e := range v.Map {
			set(key, e.Value)
		}
	default:
		return nil, false
	}
	return dict, true
}

// describe says what a value of a pickle is.
func describe(v any) string {
	switch v := v.(type) {
	case *placeholder:
		return "an object of " + v.name
	case *view:
		return "a tensor"
	case nil:
		return "None"
	case bool, int, float64, string:
		return fmt.Sprintf("a Python %T", v)
	case *types.Dict, *types.OrderedDict:
		return "a dict"
	case *types.List, *types.Tuple:
		return "a list or a tuple"
	}
	return "another object"
}
