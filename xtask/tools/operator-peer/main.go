// Operator-peer is what `cargo xtask bench operator` sets beside the product: an operator of the same shape on
// controller-runtime, and the three clients that measure both: one that declares the fleet, one that writes as many
// statuses as fast as it can, one that tells what a watch shows. They are Go, too, so that the driver costs little.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// options are the flags of all commands; each uses its own.
type options struct {
	kubeconfig  string
	tenants     int
	connectors  int
	concurrency int
	temporal    string
	metrics     string
	tuned       bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	commands := map[string]func(context.Context, *rest.Config, options) error{
		"declare": declare,
		"floor":   floor,
		"watch":   watch,
		"operate": operate,
	}
	if len(arguments) == 0 || commands[arguments[0]] == nil {
		return fmt.Errorf("usage: operator-peer declare|floor|watch|operate [flags]")
	}
	var given options
	flags := flag.NewFlagSet(arguments[0], flag.ContinueOnError)
	flags.StringVar(&given.kubeconfig, "kubeconfig", "", "the cluster")
	flags.IntVar(&given.tenants, "tenants", 10, "TenantSchedules, each in a namespace of its own")
	flags.IntVar(&given.connectors, "connectors", 100, "Connectors, shared out evenly")
	flags.IntVar(&given.concurrency, "concurrency", 16, "requests or reconciles at once, of each kind")
	flags.StringVar(&given.temporal, "temporal", "localhost:7233", "Temporal's frontend")
	flags.StringVar(&given.metrics, "metrics", "0", "operate: where metrics are served")
	flags.BoolVar(&given.tuned, "tuned", false, "operate: with the settings that its documentation recommends for many objects")
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", given.kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	// What controller-runtime's own GetConfig does since 0.21: the server's priority and fairness limits, not the client.
	config.QPS = -1
	return commands[arguments[0]](ctx, config, given)
}
