// Package addmask would mask what a program run by `proxy-exec` prints.
package addmask

import (
	"errors"
	"io"
)

var errAbsent = errors.New("masking by proxy-exec is absent from this build")

type AddMask struct{}

func New(any, ...io.Writer) (*AddMask, error) { return nil, errAbsent }

func (*AddMask) Get(int) io.WriteCloser { panic(errAbsent) }

func (*AddMask) Close() error { return errAbsent }
