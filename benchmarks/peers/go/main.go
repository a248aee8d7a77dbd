// SPDX-License-Identifier: Apache-2.0

// The Go client of etcd, told what to do like the other clients: see ../serving.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"
)

type command struct {
	Do      string
	Count   int
	Tasks   int
	Threads int
	Prefix  string
	Stamped bool
	Keys    int
	Path    string
}

type answer struct {
	Count   int     `json:"count"`
	Wall    float64 `json:"wall"`
	CPU     float64 `json:"cpu"`
	Latency float64 `json:"latency,omitempty"`
	Bytes   int64   `json:"bytes,omitempty"`
	Grown   int64   `json:"grown"`
	Error   string  `json:"error,omitempty"`
}

const key = "bench/key"

var value = strings.Repeat("v", 100)

func cpu() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}

// spread makes count calls from so many goroutines.
func spread(count, workers int, call func() error) error {
	if workers < 1 {
		workers = 1
	}
	failed := make(chan error, workers)
	var group sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for done := 0; done < count/workers; done++ {
				if err := call(); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	group.Wait()
	close(failed)
	return <-failed
}

func readEvents(watch clientv3.WatchChan, count int, stamped bool) (float64, error) {
	ages := make([]int64, 0, count)
	for left := count; left > 0; {
		response, open := <-watch
		if !open || response.Err() != nil {
			return 0, fmt.Errorf("the watch ended: %v", response.Err())
		}
		for _, event := range response.Events {
			left--
			if stamped {
				put, err := strconv.ParseInt(string(event.Kv.Value[:20]), 10, 64)
				if err != nil {
					return 0, err
				}
				ages = append(ages, monotonic()-put)
			}
		}
	}
	if !stamped {
		return 0, nil
	}
	sort.Slice(ages, func(a, b int) bool { return ages[a] < ages[b] })
	return float64(ages[len(ages)/2]) / 1e9, nil
}

func readRange(ctx context.Context, client *clientv3.Client, keys int) error {
	reply, err := client.Get(ctx, "range/", clientv3.WithPrefix())
	if err == nil && len(reply.Kvs) != keys {
		err = fmt.Errorf("%d keys instead of %d", len(reply.Kvs), keys)
	}
	return err
}

func peakMemory() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	for _, line := range strings.Split(string(status), "\n") {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "VmHWM:" {
			kilobytes, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				panic(err)
			}
			return kilobytes * 1024
		}
	}
	panic("no VmHWM")
}

func saveSnapshot(ctx context.Context, client *clientv3.Client, path string) (int64, error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer os.Remove(path)
	defer file.Close()
	source, err := client.Snapshot(ctx)
	if err != nil {
		return 0, err
	}
	defer source.Close()
	size, err := io.Copy(file, source)
	if err != nil {
		return 0, err
	}
	return size, file.Sync()
}

func main() {
	client, err := clientv3.New(clientv3.Config{Endpoints: os.Args[1:2], DialTimeout: 5 * time.Second})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	get := func() error { _, err := client.Get(ctx, key); return err }
	put := func() error { _, err := client.Put(ctx, key, value); return err }
	var watch clientv3.WatchChan
	var before int64
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(map[string][]string{"ready": {"events", "get", "put", "range", "snapshot", "watch"}}); err != nil {
		panic(err)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var told command
		if err := json.Unmarshal(lines.Bytes(), &told); err != nil {
			panic(err)
		}
		said := answer{Count: told.Count}
		start, used := time.Now(), cpu()
		switch told.Do {
		case "get":
			err = spread(told.Count, max(told.Tasks, told.Threads), get)
		case "put":
			err = spread(told.Count, max(told.Tasks, told.Threads), put)
		case "watch":
			watch = client.Watch(ctx, told.Prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
			<-watch
		case "events":
			said.Latency, err = readEvents(watch, told.Count, told.Stamped)
		case "range":
			err = spread(told.Count, 1, func() error { return readRange(ctx, client, told.Keys) })
		case "snapshot":
			if before == 0 {
				before = peakMemory()
			}
			said.Bytes, err = saveSnapshot(ctx, client, told.Path)
			said.Count, said.Grown = 1, peakMemory()-before
		default:
			err = fmt.Errorf("this client cannot do that")
		}
		said.Wall, said.CPU = time.Since(start).Seconds(), cpu()-used
		if err != nil {
			said.Error, err = err.Error(), nil
		}
		if err := out.Encode(said); err != nil {
			panic(err)
		}
	}
}
