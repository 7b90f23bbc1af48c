package attack

// Check is one point of an honest evaluation, computed from what a [Battery] found. The points
// follow Carlini et al. 2019 and Tramèr et al. 2020.
type Check struct {
	Point  int    `json:"point"` // from 1 to 12
	Name   string `json:"name"`  // such as "accuracy falls with ε"
	Status Status `json:"status"`
	Text   string `json:"text"`             // one sentence with the figures
	Advice string `json:"advice,omitempty"` // what to do; empty if Status is OK
}

// Status is the outcome of a [Check].
type Status string

// The values of [Status].
const (
	OK      Status = "ok"      // the point holds
	Warning Status = "warning" // the worst case may be too high
	Fault   Status = "fault"   // the worst case is too high, or means nothing
	Skipped Status = "skipped" // the evaluation lacks what the check needs
)
