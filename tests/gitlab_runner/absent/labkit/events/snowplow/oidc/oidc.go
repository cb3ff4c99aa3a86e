// Package oidc would sign billing events in.
package oidc

type Option func()

func WithSkipIfUnsupportedCloud(bool) Option { return func() {} }

type Source struct{}

func NewSource(...Option) *Source { return &Source{} }
