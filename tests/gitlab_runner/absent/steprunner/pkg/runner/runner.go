// Package runner would run steps inside a job.
package runner

import (
	"io"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
)

type BuiltinContext interface {
	GetEnvs() map[string]string
	GetJobVars() map[string]*structpb.Value
	GracefulExitDelay() time.Duration
	Pipe() (stdout, stderr io.Writer)
	WorkDir() string
}
