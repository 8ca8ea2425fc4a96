package sidecar

import (
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/hbone"
)

// limits are what one peer may cost.
func (c *TunnelsConfig) limits() hbone.Limits {
	return hbone.Limits{
		NoisePerSecond: int(c.NoisePerSecond), ResetsPerSecond: int(c.ResetsPerSecond), OpensPerSecond: int(c.OpensPerSecond),
		TunnelsPerPeer: int(c.TunnelsPerPeer), ConnsPerPeer: int(c.ConnsPerPeer), ConnsPerSecond: int(c.ConnsPerSecond),
		HandshakesPerAddress: int(c.HandshakesPerSource), StrangersPerSecond: int(c.StrangersPerSecond),
		HalfCloseTimeout: time.Duration(c.HalfCloseTimeout), StallTimeout: time.Duration(c.StallTimeout),
	}
}

func (c *Config) validateTunnels() error {
	t := &c.Tunnels
	for _, bound := range [...]struct {
		path  string
		value Count
	}{
		{"noisePerSecond", t.NoisePerSecond}, {"resetsPerSecond", t.ResetsPerSecond}, {"opensPerSecond", t.OpensPerSecond},
		{"tunnelsPerPeer", t.TunnelsPerPeer}, {"connsPerPeer", t.ConnsPerPeer}, {"connsPerSecond", t.ConnsPerSecond},
		{"handshakesPerSource", t.HandshakesPerSource}, {"strangersPerSecond", t.StrangersPerSecond},
	} {
		if bound.value < 0 || bound.value > maxCount {
			return &ConfigError{"tunnels." + bound.path, fmt.Sprintf("%d is out of range", bound.value),
				fmt.Sprintf("write a number from 1 to %d, or leave it out for the default", maxCount)}
		}
	}
	return nil
}
