package main

import (
	"context"
	"fmt"

	temporal "go.temporal.io/sdk/client"

	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// Namespace of the peer's Lease.
const peerNamespace = "operator-peer"

// operate runs the peer: what kubebuilder scaffolds, with a finalizer, Temporal and a status filled in. It keeps no
// store, seals nothing and observes no runs; that is work it is spared.
func operate(ctx context.Context, config *rest.Config, given options) error {
	ctrl.SetLogger(klog.Background())
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	settings := ctrl.Options{
		Scheme:                  scheme,
		Metrics:                 server.Options{BindAddress: given.metrics},
		HealthProbeBindAddress:  "0",
		LeaderElection:          true,
		LeaderElectionID:        "operator-peer",
		LeaderElectionNamespace: peerNamespace,
		// As the product does: the next process need not wait for the Lease to run out.
		LeaderElectionReleaseOnCancel: true,
	}
	tuning := controller.Options{}
	var watched []builder.ForOption
	if given.tuned {
		tuning.MaxConcurrentReconciles = given.concurrency
		settings.Cache.DefaultTransform = cache.TransformStripManagedFields()
		watched = append(watched, builder.WithPredicates(predicate.GenerationChangedPredicate{}))
	}
	manager, err := ctrl.NewManager(config, settings)
	if err != nil {
		return fmt.Errorf("make a manager: %w", err)
	}
	frontend, err := temporal.Dial(temporal.Options{HostPort: given.temporal})
	if err != nil {
		return fmt.Errorf("connect to Temporal: %w", err)
	}
	defer frontend.Close()
	tenants := &tenantReconciler{Client: manager.GetClient(), schedules: frontend.ScheduleClient()}
	err = ctrl.NewControllerManagedBy(manager).For(&TenantSchedule{}, watched...).WithOptions(tuning).Complete(tenants)
	if err != nil {
		return err
	}
	connectors := &connectorReconciler{Client: manager.GetClient(), workflows: frontend}
	err = ctrl.NewControllerManagedBy(manager).For(&Connector{}, watched...).WithOptions(tuning).Complete(connectors)
	if err != nil {
		return err
	}
	return manager.Start(ctx)
}
