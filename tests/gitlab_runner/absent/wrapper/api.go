// Package api would let another program stop a wrapped runner.
package api

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"
)

var ErrProcessNotInitialized = errors.New("no process is wrapped")

type Status int

const (
	StatusUnknown Status = iota
	StatusRunning
	StatusInShutdown
	StatusStopped
)

func (Status) String() string { return "absent from this build" }

type ShutdownCallbackDef interface {
	URL() string
	Method() string
	Headers() map[string]string
}

type ShutdownCallback interface {
	Run(context.Context)
}

type InitGracefulShutdownRequest interface {
	ShutdownCallbackDef() ShutdownCallbackDef
}

func NewShutdownCallback(logrus.FieldLogger, ShutdownCallbackDef) ShutdownCallback { return nil }
