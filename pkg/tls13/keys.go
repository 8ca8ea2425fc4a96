package tls13

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"

	_ "crypto/sha256" // of the suites
	_ "crypto/sha512"
)

// A suite is what a cipher suite means for records.
type suite struct {
	key  int // bytes
	hash crypto.Hash
}

// suites are those that this package speaks: what peers with AES in hardware negotiate.
var suites = map[uint16]suite{
	tls.TLS_AES_128_GCM_SHA256: {16, crypto.SHA256},
	tls.TLS_AES_256_GCM_SHA384: {32, crypto.SHA384},
}

// secrets are those of RFC 8446 §7.1 that the first data is protected with.
type secrets struct{ client, server []byte }

func (s *secrets) clear() {
	clear(s.client)
	clear(s.server)
	s.client, s.server = nil, nil
}

// A KeyLog keeps the two application traffic secrets and drops what else comes.
type KeyLog secrets

// Write takes one line in the format of NSS key logs: label, client random, secret.
func (k *KeyLog) Write(line []byte) (int, error) {
	fields := bytes.Fields(line)
	if len(fields) != 3 {
		return len(line), nil
	}
	var to *[]byte
	switch string(fields[0]) {
	case "CLIENT_TRAFFIC_SECRET_0":
		to = &k.client
	case "SERVER_TRAFFIC_SECRET_0":
		to = &k.server
	default:
		return len(line), nil
	}
	*to = make([]byte, hex.DecodedLen(len(fields[2])))
	_, err := hex.Decode(*to, fields[2])
	return len(line), err
}

// keys protect one direction.
type keys struct {
	suite
	secret []byte
	aead   cipher.AEAD
	iv     [12]byte
	nonce  [12]byte // scratch
	seq    uint64   // of the next record
}

var errSecret = errors.New("no secret of the negotiated size")

func (k *keys) start(s suite, secret []byte) error {
	if len(secret) != s.hash.Size() {
		return errSecret
	}
	k.suite = s
	return k.set(bytes.Clone(secret))
}

// update moves on to the next generation of keys (RFC 8446 §7.2).
func (k *keys) update() error {
	next, err := k.expand("traffic upd", k.hash.Size())
	if err != nil {
		return err
	}
	clear(k.secret)
	return k.set(next)
}

// set derives what protects records from a secret (RFC 8446 §7.3).
func (k *keys) set(secret []byte) error {
	k.secret, k.seq = secret, 0
	key, err := k.expand("key", k.key)
	if err != nil {
		return err
	}
	iv, err := k.expand("iv", len(k.iv))
	if err != nil {
		return err
	}
	copy(k.iv[:], iv)
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	k.aead, err = cipher.NewGCM(block)
	return err
}

// expand is HKDF-Expand-Label without a context (RFC 8446 §7.1).
func (k *keys) expand(label string, size int) ([]byte, error) {
	const prefix = "tls13 "
	info := make([]byte, 0, 4+len(prefix)+len(label))
	info = binary.BigEndian.AppendUint16(info, uint16(size))
	info = append(info, byte(len(prefix)+len(label)))
	info = append(info, prefix...)
	info = append(info, label...)
	info = append(info, 0)
	return hkdf.Expand(k.hash.New, k.secret, string(info), size)
}

// next is the nonce of the next record (RFC 8446 §5.3).
func (k *keys) next() []byte {
	k.nonce = k.iv
	last := k.nonce[4:]
	binary.BigEndian.PutUint64(last, binary.BigEndian.Uint64(last)^k.seq)
	k.seq++
	return k.nonce[:]
}
