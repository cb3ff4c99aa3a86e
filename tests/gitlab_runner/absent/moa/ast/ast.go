// Package ast has the syntax of inputs.
package ast

type Expr interface {
	Walk(Visitor) (Expr, error)
}

type Visitor interface {
	Enter(Expr) (Visitor, error)
	Exit(Expr) (Expr, error)
}

type Template struct{}

func (template *Template) Walk(Visitor) (Expr, error) { return template, nil }
