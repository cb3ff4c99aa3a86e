// Package fields has the names of log fields. Here none is deprecated, so each keeps the name its caller gives it.
package fields

const (
	DurationS      = "duration_s"
	HTTPStatusCode = "status"
)

type Deprecation struct{ Standard string }

var (
	Deprecated     = map[string]Deprecation{}
	VariantVersion = map[string]int{}
)
