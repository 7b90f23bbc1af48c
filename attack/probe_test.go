package attack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
)

func TestProbe(t *testing.T) {
	m := model(t, "conv3 | fc", false)
	data := newSet(t, m)
	_ = data
	c, cancel := context.WithCancel(context.Background())
	cancel()
	r, err := attack.Evaluate(c, m, data, []attack.Named{{"a", attack.FGSM(0.1, snn.BPTT{})}}, attack.DefaultConfig())
	fmt.Println(err)
	b, _ := json.Marshal(r)
	var q attack.Report
	fmt.Println(json.Unmarshal(b, &q))
	fmt.Println(reflect.DeepEqual(*r, q))
	fmt.Printf("%#v\n%#v\n", *r, q)
}
