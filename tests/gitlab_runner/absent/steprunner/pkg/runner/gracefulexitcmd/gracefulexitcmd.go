// Package gracefulexitcmd would run the commands of steps.
package gracefulexitcmd

import (
	"context"
	"errors"
	"os/exec"
	"time"
)

func New(ctx context.Context, _ time.Duration, name string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, name, arguments...)
	command.Err = errors.New("steps of jobs are absent from this build")
	return command
}
