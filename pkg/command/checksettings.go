package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

// settings checks a file of settings as if a sidecar had been given what a pod's
// environment says of the pod, and tells what that is.
func (c *checker) settings(d *manifest.Document) {
	at := fmt.Sprintf("%s:%d: settings", d.File, d.Line)
	config := sidecar.DefaultConfig()
	if err := d.Decode(&config); err != nil {
		c.tell(at, err)
		return
	}
	absent := standIn(&config.Workload)
	err := config.Validate()
	if wrong, ok := errors.AsType[*sidecar.ConfigError](err); ok {
		err = d.Fault(wrong.Path+": "+wrong.Problem, wrong.Remedy, strings.Split(wrong.Path, ".")...)
	}
	c.tell(at, err)
	if len(absent) > 0 {
		fmt.Fprintf(c.out, "%s: not known here: %s\n", at, strings.Join(absent, "; "))
	}
}

// standIn fills in what a pod tells its sidecar and a file need not say, and
// answers what that is and where a sidecar has it from.
func standIn(w *sidecar.WorkloadConfig) (absent []string) {
	for _, one := range []struct {
		field     *string
		value     string
		path, env string
	}{
		{&w.Name, "pod", "workload.name", "POD_NAME"},
		{&w.Namespace, "namespace", "workload.namespace", "POD_NAMESPACE"},
		{&w.ServiceAccount, "default", "workload.serviceAccount", "SERVICE_ACCOUNT"},
	} {
		if *one.field == "" {
			*one.field = one.value
			absent = append(absent, fmt.Sprintf("%s, from $%s", one.path, one.env))
		}
	}
	if len(w.Addresses) == 0 {
		w.Addresses = []string{"192.0.2.1"} // RFC 5737: nobody's
		absent = append(absent, "workload.addresses, from $INSTANCE_IP")
	}
	if w.LabelsFile != "" {
		absent = append(absent, "the labels in "+w.LabelsFile)
		w.LabelsFile = ""
	}
	return absent
}
