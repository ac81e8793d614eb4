package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"go.temporal.io/api/serviceerror"
	temporal "go.temporal.io/sdk/client"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

const (
	finalizer = "sync.gtmclarity.io/operator-peer"
	taskQueue = "connector-sync"
	hashKey   = "specHash"
)

// tenantReconciler makes a tenant's schedule in Temporal be as its TenantSchedule asks.
type tenantReconciler struct {
	client.Client

	schedules temporal.ScheduleClient
}

// Reconcile one TenantSchedule.
func (r *tenantReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := &TenantSchedule{}
	if err := r.Get(ctx, request.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	handle := r.schedules.GetHandle(ctx, "scheduled-sync-"+object.Spec.TenantID)
	if !object.DeletionTimestamp.IsZero() {
		if err := handle.Delete(ctx); err != nil && !isNotFound(err) {
			return ctrl.Result{}, err
		}
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
	described, err := r.ensure(ctx, handle, object)
	if err != nil {
		return ctrl.Result{}, err
	}
	before := object.Status.copied()
	object.Status.ObservedGeneration = object.Generation
	object.Status.Schedule = &ScheduleStatus{ID: handle.GetID(), SpecHash: hash(object.Spec)}
	if next := described.Info.NextActionTimes; len(next) > 0 {
		object.Status.NextRunTime = &metav1.Time{Time: next[0].Truncate(time.Second).Local()}
	}
	ready(&object.Status, object.Generation, "Scheduled", "the schedule stands in Temporal as the spec asks")
	if equality.Semantic.DeepEqual(before, object.Status) {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, r.Status().Update(ctx, object)
}

// ensure describes the schedule, and creates or updates it when it is not as wanted.
func (r *tenantReconciler) ensure(
	ctx context.Context, handle temporal.ScheduleHandle, object *TenantSchedule,
) (*temporal.ScheduleDescription, error) {
	described, err := handle.Describe(ctx)
	switch {
	case isNotFound(err):
		if _, err := r.schedules.Create(ctx, wanted(object)); err != nil {
			return nil, err
		}
		return handle.Describe(ctx)
	case err != nil:
		return nil, err
	case memoHash(described) == hash(object.Spec):
		return described, nil
	}
	err = handle.Update(ctx, temporal.ScheduleUpdateOptions{
		DoUpdate: func(found temporal.ScheduleUpdateInput) (*temporal.ScheduleUpdate, error) {
			schedule := found.Description.Schedule
			options := wanted(object)
			schedule.Spec, schedule.Action = &options.Spec, options.Action
			return &temporal.ScheduleUpdate{Schedule: &schedule}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	return handle.Describe(ctx)
}

func wanted(object *TenantSchedule) temporal.ScheduleOptions {
	id := "scheduled-sync-" + object.Spec.TenantID
	spec := temporal.ScheduleSpec{CronExpressions: object.Spec.Schedules, TimeZoneName: object.Spec.TimeZone}
	if spread := object.Spec.Spread; spread != nil {
		// The CRD lets nothing in that is no duration.
		spec.Jitter, _ = time.ParseDuration(spread.Window)
	}
	catchUp, _ := time.ParseDuration(object.Spec.CatchUpWindow)
	return temporal.ScheduleOptions{
		ID:   id,
		Spec: spec,
		Action: &temporal.ScheduleWorkflowAction{
			ID:        id,
			Workflow:  "scheduledSyncWorkflow",
			Args:      []any{map[string]string{"tenantId": object.Spec.TenantID}},
			TaskQueue: taskQueue,
			Memo:      map[string]any{hashKey: hash(object.Spec)},
		},
		CatchupWindow: catchUp,
		Paused:        object.Spec.Suspend,
	}
}

// memoHash reads the hash from the memo of the action: an update through the SDK cannot write the schedule's own.
func memoHash(described *temporal.ScheduleDescription) string {
	action, ok := described.Schedule.Action.(*temporal.ScheduleWorkflowAction)
	if !ok {
		return ""
	}
	var found string
	switch value := action.Memo[hashKey].(type) {
	case string:
		found = value
	case interface{ GetData() []byte }:
		_ = json.Unmarshal(value.GetData(), &found)
	}
	return found
}

func hash(spec TenantScheduleSpec) string {
	text, err := json.Marshal(spec)
	if err != nil {
		panic(err) // plain fields
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func isNotFound(err error) bool {
	var notFound *serviceerror.NotFound
	return errors.As(err, &notFound)
}

func ready(status *Status, generation int64, reason, message string) {
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: "Ready", Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: generation,
	})
}
