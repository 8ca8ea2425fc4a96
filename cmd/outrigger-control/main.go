// Command outrigger-control is the istiod-like control plane.
package main

import (
	"os"

	"github.com/outrigger-mesh/outrigger/pkg/command"
	"github.com/outrigger-mesh/outrigger/pkg/command/plane"
)

func main() { os.Exit(command.Main(plane.Control())) }
