package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// A list or watch that broke is taken up again after this.
const watchPause = 200 * time.Millisecond

// seen is what the benchmark wants to know of an object of either kind.
type seen struct {
	Metadata struct {
		Namespace       string `json:"namespace"`
		Name            string `json:"name"`
		Generation      int64  `json:"generation"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Status struct {
		ObservedGeneration int64 `json:"observedGeneration"`
		Conditions         []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
		Progress struct {
			RecordsProcessed int64 `json:"recordsProcessed"`
		} `json:"progress"`
	} `json:"status"`
}

// watch prints a line for each state of an object, when it is seen: time in ns, T or C, namespace/name, generation,
// observed generation, Ready, Connected, records processed, by tabs.
func watch(ctx context.Context, config *rest.Config, _ options) error {
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	lines := &printer{out: bufio.NewWriter(os.Stdout)}
	go lines.flush(ctx)
	var watchers sync.WaitGroup
	for kind, plural := range map[string]string{"T": "tenantschedules", "C": "connectors"} {
		base := fmt.Sprintf("%s/apis/%s/%s", config.Host, groupVersion, plural)
		get := func(ctx context.Context, query url.Values) (io.ReadCloser, error) {
			return open(ctx, transport, base+"?"+query.Encode())
		}
		watchers.Go(func() {
			for ctx.Err() == nil {
				if err := follow(ctx, kind, get, lines); err != nil && ctx.Err() == nil {
					fmt.Fprintln(os.Stderr, kind, err)
				}
				time.Sleep(watchPause)
			}
		})
	}
	watchers.Wait()
	return nil
}

type getter func(context.Context, url.Values) (io.ReadCloser, error)

// follow lists once, then watches until the watch ends.
func follow(ctx context.Context, kind string, get getter, lines *printer) error {
	version, next := "", ""
	for {
		query := url.Values{"limit": {"500"}}
		if next != "" {
			query.Set("continue", next)
		}
		body, err := get(ctx, query)
		if err != nil {
			return err
		}
		var page struct {
			Metadata struct {
				ResourceVersion string `json:"resourceVersion"`
				Continue        string `json:"continue"`
			} `json:"metadata"`
			Items []seen `json:"items"`
		}
		err = json.NewDecoder(body).Decode(&page)
		body.Close()
		if err != nil {
			return err
		}
		for at := range page.Items {
			lines.print(kind, &page.Items[at])
		}
		version, next = page.Metadata.ResourceVersion, page.Metadata.Continue
		if next == "" {
			break
		}
	}
	for ctx.Err() == nil {
		var err error
		if version, err = stream(ctx, kind, version, get, lines); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// stream watches from a version until the server ends it, and tells how far it came.
func stream(ctx context.Context, kind, version string, get getter, lines *printer) (string, error) {
	query := url.Values{"watch": {"true"}, "resourceVersion": {version}, "allowWatchBookmarks": {"true"}}
	body, err := get(ctx, query)
	if err != nil {
		return version, err
	}
	defer body.Close()
	decoder := json.NewDecoder(body)
	for {
		var event struct {
			Type   string `json:"type"`
			Object seen   `json:"object"`
		}
		if err := decoder.Decode(&event); err != nil {
			return version, err
		}
		switch event.Type {
		case "ERROR":
			return version, errors.New("the watch must begin anew")
		case "ADDED", "MODIFIED":
			lines.print(kind, &event.Object)
		}
		version = event.Object.Metadata.ResourceVersion
	}
}

// printer writes whole lines, of several watches.
type printer struct {
	mutex sync.Mutex
	out   *bufio.Writer
}

func (lines *printer) print(kind string, of *seen) {
	at := time.Now().UnixNano()
	ready, connected := "-", "-"
	for _, condition := range of.Status.Conditions {
		switch condition.Type {
		case "Ready":
			ready = condition.Status
		case "Connected":
			connected = condition.Status
		}
	}
	lines.mutex.Lock()
	defer lines.mutex.Unlock()
	fmt.Fprintf(lines.out, "%d\t%s\t%s/%s\t%d\t%d\t%s\t%s\t%d\n",
		at, kind, of.Metadata.Namespace, of.Metadata.Name, of.Metadata.Generation, of.Status.ObservedGeneration,
		ready, connected, of.Status.Progress.RecordsProcessed)
}

// flush lets the reader see lines ten times a second: their times are theirs, not the reader's.
func (lines *printer) flush(ctx context.Context) {
	for ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
		lines.mutex.Lock()
		err := lines.out.Flush()
		lines.mutex.Unlock()
		if err != nil {
			os.Exit(1)
		}
	}
}
