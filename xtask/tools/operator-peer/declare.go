package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Writers at once while the fleet is declared; nothing is measured then.
const declarers = 32

// tenant and connector name the objects of a fleet: each tenant has a namespace of its own, as documented.
func tenant(number int) string { return fmt.Sprintf("tenant-%04d", number) }

func connector(number int) string { return fmt.Sprintf("crm-%05d", number) }

func (given options) tenantOf(connector int) int { return connector % given.tenants }

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	register(scheme)
	return scheme, nil
}

// declare creates the fleet: namespaces with a Secret each, TenantSchedules, Connectors.
func declare(ctx context.Context, config *rest.Config, given options) error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	writer, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	// No tick falls into the benchmark: each would be a write of its own.
	cron := fmt.Sprintf("0 %d * * *", (time.Now().UTC().Hour()+12)%24)
	err = each(ctx, given.tenants, declarers, func(ctx context.Context, number int) error {
		name := tenant(number)
		objects := []client.Object{
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}},
			&corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Name: "crm", Namespace: name},
				StringData: map[string]string{"accessToken": "pat-" + name},
			},
			&TenantSchedule{
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: name},
				Spec:       TenantScheduleSpec{TenantID: name, Schedules: []string{cron}},
				Status:     Status{ObservedGeneration: -1},
			},
		}
		for _, object := range objects {
			if err := writer.Create(ctx, object); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return each(ctx, given.connectors, declarers, func(ctx context.Context, number int) error {
		of := tenant(given.tenantOf(number))
		return writer.Create(ctx, &Connector{
			ObjectMeta: metav1.ObjectMeta{Name: connector(number), Namespace: of},
			Spec: ConnectorSpec{
				TenantID:    of,
				Source:      Source{Type: "HubSpot", HubSpot: &HubSpot{BaseURL: "https://crm.example.com"}},
				Credentials: Credentials{SecretRef: &SecretRef{Name: "crm"}},
			},
			Status: Status{ObservedGeneration: -1},
		})
	})
}

// each does work for 0..count, so many at once, until one fails.
func each(ctx context.Context, count, atOnce int, work func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for ctx.Err() == nil {
				number := int(next.Add(1)) - 1
				if number >= count {
					return
				}
				if err := work(ctx, number); err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}
