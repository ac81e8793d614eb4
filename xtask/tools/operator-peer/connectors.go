package main

import (
	"context"

	enumspb "go.temporal.io/api/enums/v1"
	temporal "go.temporal.io/sdk/client"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// connectorReconciler looks a Connector's Secret up and has its connection checked.
type connectorReconciler struct {
	client.Client

	workflows temporal.Client
}

// Reconcile one Connector.
func (r *connectorReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := &Connector{}
	if err := r.Get(ctx, request.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !object.DeletionTimestamp.IsZero() {
		if controllerutil.RemoveFinalizer(object, finalizer) {
			return ctrl.Result{}, r.Update(ctx, object)
		}
		return ctrl.Result{}, nil
	}
	if controllerutil.AddFinalizer(object, finalizer) {
		if err := r.Update(ctx, object); err != nil {
			return ctrl.Result{}, err
		}
	}
	secret := types.NamespacedName{Namespace: object.Namespace, Name: object.Spec.Credentials.SecretRef.Name}
	if err := r.Get(ctx, secret, &corev1.Secret{}); err != nil {
		return ctrl.Result{}, err
	}
	if object.Status.ObservedGeneration != object.Generation {
		if err := r.check(ctx, object); err != nil {
			return ctrl.Result{}, err
		}
	}
	before := object.Status.copied()
	object.Status.ObservedGeneration = object.Generation
	ready(&object.Status, object.Generation, "Configured", "workers know this connector as the spec asks")
	if equality.Semantic.DeepEqual(before, object.Status) {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, r.Status().Update(ctx, object)
}

// check starts the workflow that tries the credential, unless it is at work.
func (r *connectorReconciler) check(ctx context.Context, object *Connector) error {
	options := temporal.StartWorkflowOptions{
		ID:                       "check-" + object.Spec.TenantID + "-" + object.Name,
		TaskQueue:                taskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
	}
	input := map[string]string{"tenantId": object.Spec.TenantID, "connectorId": object.Name}
	_, err := r.workflows.ExecuteWorkflow(ctx, options, "checkConnectionWorkflow", input)
	return err
}
