// Package expression would evaluate the inputs of a job.
package expression

import (
	"errors"

	"gitlab.com/gitlab-org/moa/ast"
	"gitlab.com/gitlab-org/moa/value"
)

const Sensitive uint16 = 1

var errAbsent = errors.New("inputs of jobs are absent from this build")

type Input struct {
	Key   string
	Value value.Value
}

type Evaluator struct{}

func NewEvaluator(value.Value) (*Evaluator, error) { return nil, errAbsent }

func (*Evaluator) Eval(string, ast.Expr) (value.Value, error) { return value.Value{}, errAbsent }
