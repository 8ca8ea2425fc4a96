package mesh

// A Reference names what an address or a service's name leads to: one of the
// two is set.
type Reference struct {
	Address NetworkAddress
	Service Name
}

// String is the reference as xDS names it: network/address or namespace/hostname.
func (r Reference) String() string {
	if r.Service != (Name{}) {
		return r.Service.String()
	}
	return r.Address.String()
}

func (a NetworkAddress) String() string { return a.Network + "/" + a.Address.String() }
