package discovery

import (
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func wrap(n uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(n) }

func documentBody(url string, body []byte) *anypb.Any { return &anypb.Any{TypeUrl: url, Value: body} }
