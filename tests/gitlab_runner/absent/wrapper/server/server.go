// Package server would serve the wrapper. It does not.
package server

import (
	"net"

	"github.com/sirupsen/logrus"
)

type Server struct{ log logrus.FieldLogger }

func New(log logrus.FieldLogger, _ any) *Server { return &Server{log} }

func (server *Server) Listen(net.Listener) {
	server.log.Error("serving the wrapper is absent from this build")
}

func (*Server) Stop() {}
