// Package outage takes the control plane away for long and looks at what
// becomes of calls, and at how often it is dialled.
package outage
