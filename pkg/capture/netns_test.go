//go:build linux && netns

package capture

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Needs iptables, ip6tables and ip, and root or user namespaces. The test runs itself again inside a
// network namespace of its own, so that every thread of it is there and nothing of
// the machine is touched.
func TestRedirectedConnectionsNameTheirOriginalDestination(t *testing.T) {
	if os.Getenv("OUTRIGGER_TEST_NETNS") == "" {
		inNamespace(t)
		return
	}
	for _, cmd := range []string{
		"ip link set lo up",
		"ip route add default dev lo",
		"ip -6 route add default dev lo",
		"iptables -t nat -A OUTPUT -p tcp -m mark --mark 0x539/0xfff -j RETURN",
		"iptables -t nat -A OUTPUT -p tcp ! -d 127.0.0.1/32 -j REDIRECT --to-ports 15001",
		"ip6tables -t nat -A OUTPUT -p tcp -m mark --mark 0x539/0xfff -j RETURN",
		"ip6tables -t nat -A OUTPUT -p tcp ! -d ::1/128 -j REDIRECT --to-ports 15001",
	} {
		args := strings.Fields(cmd)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", cmd, err, out)
		}
	}
	l := listen(t, Config{Address: ":15001"})

	for _, to := range []string{"192.0.2.7:443", "127.0.0.9:80", "[2001:db8::7]:8443"} {
		c := call(t, l, to)
		if want := netip.MustParseAddrPort(to); !c.Redirected() || c.Original != want {
			t.Errorf("dialled %v, original %v, local %v", want, c.Original, c.Local)
		}
	}
	for _, to := range []string{"127.0.0.1:15001", "[::1]:15001"} {
		if c := call(t, l, to); c.Redirected() || c.Original.String() != to {
			t.Errorf("dialled us at %s, but original is %v, local %v", to, c.Original, c.Local)
		}
	}

	for _, to := range []string{"127.0.0.9:9000", "[::]:9001"} {
		app, err := net.Listen("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer app.Close()
		if to == "[::]:9001" {
			to = "127.0.0.8:9001"
		}
		if c := call(t, l, to); c.Original.String() != to {
			t.Errorf("without a mark %s was not redirected: %v", to, c.Original)
		}
		c, err := (&Dialer{Mark: 0x539}).Dial(t.Context(), netip.MustParseAddrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if a, err := app.Accept(); err != nil || a.RemoteAddr().String() != c.LocalAddr().String() {
			t.Errorf("with a mark %s was not reached: %v", to, err)
		} else {
			a.Close()
		}
	}
}

func inNamespace(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "OUTRIGGER_TEST_NETNS=1", "XTABLES_LOCKFILE="+t.TempDir()+"/xtables.lock")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}
