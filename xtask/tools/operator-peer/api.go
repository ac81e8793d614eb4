package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The product's API types, as far as the fleet uses them and the server's defaults fill them: an Update of the whole
// object must not drop a field. Copies are written by hand, there are too few for a generator.

var groupVersion = schema.GroupVersion{Group: "sync.gtmclarity.io", Version: "v1alpha1"}

// TenantSchedule is a tenant and when it ticks.
type TenantSchedule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TenantScheduleSpec `json:"spec"`
	Status Status             `json:"status,omitempty"`
}

// TenantScheduleSpec is what a user asks for.
type TenantScheduleSpec struct {
	TenantID       string   `json:"tenantId"`
	Schedules      []string `json:"schedules,omitempty"`
	TimeZone       string   `json:"timeZone,omitempty"`
	Spread         *Spread  `json:"spread,omitempty"`
	OverlapPolicy  string   `json:"overlapPolicy,omitempty"`
	CatchUpWindow  string   `json:"catchUpWindow,omitempty"`
	Suspend        bool     `json:"suspend,omitempty"`
	PauseOnFailure bool     `json:"pauseOnFailure,omitempty"`
	PausePolicy    string   `json:"pausePolicy,omitempty"`
	DriftPolicy    string   `json:"driftPolicy,omitempty"`
	ConflictPolicy string   `json:"conflictPolicy,omitempty"`
	DeletionPolicy string   `json:"deletionPolicy,omitempty"`
	DataPolicy     string   `json:"dataPolicy,omitempty"`
}

// Spread delays each tick by a part of the window.
type Spread struct {
	Window string `json:"window,omitempty"`
}

// Connector is a source and how it is synced.
type Connector struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ConnectorSpec `json:"spec"`
	Status Status        `json:"status,omitempty"`
}

// ConnectorSpec is what a user asks for.
type ConnectorSpec struct {
	TenantID    string      `json:"tenantId"`
	Source      Source      `json:"source"`
	Credentials Credentials `json:"credentials"`
	Limits      *Limits     `json:"limits,omitempty"`
	Sync        *Sync       `json:"sync,omitempty"`
	State       string      `json:"state,omitempty"`
}

// Source names a system.
type Source struct {
	Type    string   `json:"type"`
	HubSpot *HubSpot `json:"hubspot,omitempty"`
}

// HubSpot is reached so.
type HubSpot struct {
	BaseURL string `json:"baseUrl,omitempty"`
}

// Credentials open the source.
type Credentials struct {
	SecretRef *SecretRef `json:"secretRef,omitempty"`
}

// SecretRef names a Secret of the same namespace.
type SecretRef struct {
	Name string `json:"name"`
	Key  string `json:"key,omitempty"`
}

// Limits of a sync.
type Limits struct {
	RequestsPerSecond   int32 `json:"requestsPerSecond,omitempty"`
	QuotaReservePercent int32 `json:"quotaReservePercent,omitempty"`
	MaxRejectedPercent  int32 `json:"maxRejectedPercent,omitempty"`
	MaxSweptPercent     int32 `json:"maxSweptPercent,omitempty"`
}

// Sync says how.
type Sync struct {
	BatchSize int32 `json:"batchSize,omitempty"`
}

// Status is what the peer writes of either kind.
type Status struct {
	ObservedGeneration int64              `json:"observedGeneration"`
	Schedule           *ScheduleStatus    `json:"schedule,omitempty"`
	NextRunTime        *metav1.Time       `json:"nextRunTime,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

// ScheduleStatus is of the schedule in Temporal.
type ScheduleStatus struct {
	ID       string `json:"id"`
	SpecHash string `json:"specHash"`
}

// TenantScheduleList is a list.
type TenantScheduleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []TenantSchedule `json:"items"`
}

// ConnectorList is a list.
type ConnectorList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Connector `json:"items"`
}

func register(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(groupVersion, &TenantSchedule{}, &TenantScheduleList{}, &Connector{}, &ConnectorList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
}

// DeepCopyObject copies.
func (in *TenantSchedule) DeepCopyObject() runtime.Object {
	out := *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Schedules = append([]string(nil), in.Spec.Schedules...)
	out.Spec.Spread = copied(in.Spec.Spread)
	out.Status = in.Status.copied()
	return &out
}

// DeepCopyObject copies.
func (in *Connector) DeepCopyObject() runtime.Object {
	out := *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Source.HubSpot = copied(in.Spec.Source.HubSpot)
	out.Spec.Credentials.SecretRef = copied(in.Spec.Credentials.SecretRef)
	out.Spec.Limits = copied(in.Spec.Limits)
	out.Spec.Sync = copied(in.Spec.Sync)
	out.Status = in.Status.copied()
	return &out
}

// DeepCopyObject copies.
func (in *TenantScheduleList) DeepCopyObject() runtime.Object {
	out := *in
	out.Items = make([]TenantSchedule, len(in.Items))
	for at := range in.Items {
		out.Items[at] = *in.Items[at].DeepCopyObject().(*TenantSchedule)
	}
	return &out
}

// DeepCopyObject copies.
func (in *ConnectorList) DeepCopyObject() runtime.Object {
	out := *in
	out.Items = make([]Connector, len(in.Items))
	for at := range in.Items {
		out.Items[at] = *in.Items[at].DeepCopyObject().(*Connector)
	}
	return &out
}

func (in *Status) copied() Status {
	out := *in
	out.Schedule = copied(in.Schedule)
	if in.NextRunTime != nil {
		out.NextRunTime = in.NextRunTime.DeepCopy()
	}
	out.Conditions = append([]metav1.Condition(nil), in.Conditions...)
	return out
}

func copied[T any](in *T) *T {
	if in == nil {
		return nil
	}
	out := *in
	return &out
}
