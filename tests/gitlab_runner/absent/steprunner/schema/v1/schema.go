// Package schema has the steps of a job with `run:`.
package schema

type Step struct {
	Name   *string    `json:"name,omitempty" yaml:"name,omitempty"`
	Step   any        `json:"step,omitempty" yaml:"step,omitempty"`
	Inputs StepInputs `json:"inputs,omitempty" yaml:"inputs,omitempty"`
	Run    []Step     `json:"run,omitempty" yaml:"run,omitempty"`
}

type StepInputs map[string]any
