package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// floor writes what the product writes until all is Ready and does nothing else: a finalizer and a status for each
// TenantSchedule, a status for each Connector, of the same shape and size, by server-side apply, with the same number of
// writers. It reads, decides and waits for nothing, so nobody who writes that much can be faster. Prints the seconds.
func floor(ctx context.Context, config *rest.Config, given options) error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	writer, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	start := time.Now()
	ended := make(chan error, 2)
	go func() {
		ended <- each(ctx, given.tenants, given.concurrency, func(ctx context.Context, number int) error {
			return writeTenant(ctx, writer, tenant(number))
		})
	}()
	go func() {
		ended <- each(ctx, given.connectors, given.concurrency, func(ctx context.Context, number int) error {
			return writeConnector(ctx, writer, tenant(given.tenantOf(number)), connector(number))
		})
	}()
	for range 2 {
		if err := <-ended; err != nil {
			return err
		}
	}
	fmt.Printf("%.3f\n", time.Since(start).Seconds())
	return nil
}

func writeTenant(ctx context.Context, writer client.Client, name string) error {
	object := &TenantSchedule{}
	object.Namespace, object.Name = name, name
	finalizer := []byte(`{"metadata":{"finalizers":["sync.gtmclarity.io/temporal-schedule"]}}`)
	if err := writer.Patch(ctx, object, client.RawPatch(types.MergePatchType, finalizer)); err != nil {
		return err
	}
	hash := "4d1c0f5e3a4d1c0f5e3a4d1c0f5e3a4d1c0f5e3a4d1c0f5e3a4d1c0f5e3a0001"
	status := map[string]any{
		"observedGeneration": 1,
		"schedule":           map[string]any{"id": "scheduled-sync-" + name, "specHash": hash, "echoHash": hash},
		"paused":             false,
		"counts":             map[string]any{"missed": 0, "skipped": 0, "dropped": 0, "buffered": 0},
		"nextRunTime":        now(),
		"conditions": []any{
			condition("Ready", "Scheduled", "the schedule stands in Temporal as the spec asks"),
			condition("Synced", "InSync", "the schedule in Temporal is as the spec asks"),
		},
	}
	return apply(ctx, writer, object, "TenantSchedule", status)
}

func writeConnector(ctx context.Context, writer client.Client, namespace, name string) error {
	object := &Connector{}
	object.Namespace, object.Name = namespace, name
	ready := condition("Ready", "Configured", "workers know this connector as the spec asks")
	return apply(ctx, writer, object, "Connector", map[string]any{"observedGeneration": 1, "conditions": []any{ready}})
}

func apply(ctx context.Context, writer client.Client, object client.Object, kind string, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{
		"apiVersion": groupVersion.String(),
		"kind":       kind,
		"metadata":   map[string]any{"name": object.GetName()},
		"status":     status,
	})
	if err != nil {
		return err
	}
	raw := client.RawPatch(types.ApplyPatchType, patch)
	return writer.Status().Patch(ctx, object, raw, client.FieldOwner("floor"), client.ForceOwnership)
}

func condition(of, reason, message string) map[string]any {
	return map[string]any{
		"type": of, "status": "True", "reason": reason, "message": message,
		"lastTransitionTime": now(), "observedGeneration": 1,
	}
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }
