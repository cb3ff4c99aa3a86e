// Package client has what is said to a step-runner.
package client

import "time"

type State string

const (
	StateSuccess   State = "success"
	StateCancelled State = "cancelled"
)

func (state State) String() string { return string(state) }

type ErrorKind string

const (
	ErrorInternal    ErrorKind = "internal"
	ErrorStepFailure ErrorKind = "step_failure"
	ErrorCancelled   ErrorKind = "cancelled"
	ErrorTimeout     ErrorKind = "timeout"
	ErrorUnknown     ErrorKind = "unknown"
)

type Status struct {
	State     State
	ErrorKind ErrorKind
	Message   string
}

type Variable struct {
	Key, Value   string
	File, Masked bool
}

type RunRequest struct {
	Id                string
	Timeout           *time.Duration
	WorkDir, BuildDir string
	Env               map[string]string
	Steps             string
	Variables         []Variable
}
