// The figures of benches/pds_engine.rs for indigo's repo package, in memory.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	blockstore "github.com/ipfs/go-ipfs-blockstore"
	"github.com/multiformats/go-multihash"
)

const (
	commits    = 20_000
	collection = "io.atcr.hold.layer"
)

func rkey(n uint32) string {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(nil, n))
	return hex.EncodeToString(sum[:])
}

func record(n uint32) map[string]any {
	return map[string]any{
		"$type":     collection,
		"digest":    "sha256:" + rkey(n),
		"size":      int64(123456789),
		"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
		"userDid":   "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
		"createdAt": "2026-11-20T21:43:48.449Z",
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func usage() syscall.Rusage {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return used
}

func cpu() float64 {
	used := usage()
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

func main() {
	ctx := context.Background()
	key := must(atcrypto.ParsePrivateBytesK256(bytes.Repeat([]byte{7}, 32)))
	clock := syntax.NewTIDClock(1)
	store := blockstore.NewBlockstore(datastore.NewMapDatastore())
	tree := mst.NewEmptyTree()
	wall, begin := time.Now(), cpu()
	for n := uint32(0); n < commits; n++ {
		block := must(atdata.MarshalCBOR(record(n)))
		value := must(cid.NewPrefixV1(cid.DagCBOR, multihash.SHA2_256).Sum(block))
		must(repo.ApplyOp(&tree, collection+"/"+rkey(n), &value))
		root := must(tree.WriteDiffBlocks(ctx, store))
		commit := repo.Commit{DID: "did:web:hold.example.com", Version: 3, Data: *root, Rev: clock.Next().String()}
		if err := commit.Sign(key); err != nil {
			panic(err)
		}
		if err := commit.MarshalCBOR(new(bytes.Buffer)); err != nil {
			panic(err)
		}
	}
	took, used := time.Since(wall).Seconds(), cpu()-begin
	fmt.Printf("memory: %.0f commits/s (%.0f CPU µs each)\n", commits/took, used/commits*1e6)

	file := must(os.ReadFile(os.Args[1]))
	wall, begin = time.Now(), cpu()
	_, loaded, err := repo.LoadRepoFromCAR(ctx, bytes.NewReader(file))
	if err != nil {
		panic(err)
	}
	records := 0
	err = loaded.MST.Walk(func(key []byte, _ cid.Cid) error {
		path := strings.SplitN(string(key), "/", 2)
		_, _, err := loaded.GetRecordBytes(ctx, syntax.NSID(path[0]), syntax.RecordKey(path[1]))
		records++
		return err
	})
	if err != nil {
		panic(err)
	}
	fmt.Printf("import: %d records in %.2f s (%.2f CPU s), %d MiB\n",
		records, time.Since(wall).Seconds(), cpu()-begin, usage().Maxrss/1024)
}
