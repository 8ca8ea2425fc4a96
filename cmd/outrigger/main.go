// Command outrigger is the sidecar, and the small commands a person at a shell needs.
package main

import (
	"os"

	"github.com/outrigger-mesh/outrigger/pkg/command"
)

func main() { os.Exit(command.Main(command.Outrigger())) }
