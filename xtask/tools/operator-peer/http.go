package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// open sends a GET whose answer may take for ever.
func open(ctx context.Context, transport *http.Client, address string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := transport.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, fmt.Errorf("the API server answered %s", answer.Status)
	}
	return answer.Body, nil
}
