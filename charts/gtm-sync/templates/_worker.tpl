{{/* The Deployment of the shared worker pool, from which the operator makes one for each build, and those of tenants' own
     workers. Of `replicas` it has the least, or none where an autoscaler decides. */}}
{{- define "gtm-sync.worker" -}}
{{- $workers := .Values.workers -}}
{{- $ours := include "gtm-sync.worker.ours" . | fromYaml -}}
{{- if not $workers.autoscaling.external -}}
{{- $least := ternary $workers.replicas $workers.minReplicas (kindIs "invalid" $workers.minReplicas) -}}
{{- $_ := set $ours.spec "replicas" (int $least) -}}
{{- end -}}
{{- $template := deepCopy $workers.podTemplate -}}
{{- $pod := $template.spec | default dict -}}
{{- $container := first $ours.spec.template.spec.containers -}}
{{- $containers := list -}}
{{- range $pod.containers -}}
{{- if eq .name $container.name -}}
{{- $named := list -}}
{{- range .env }}{{ $named = append $named .name }}{{ end -}}
{{- $env := .env | default list -}}
{{- range $container.env }}{{ if not (has .name $named) }}{{ $env = append $env . }}{{ end }}{{ end -}}
{{- $mounts := concat $container.volumeMounts (.volumeMounts | default list) -}}
{{- $container = mergeOverwrite $container . (dict "env" $env "volumeMounts" $mounts) -}}
{{- else -}}
{{- $containers = append $containers . -}}
{{- end -}}
{{- end -}}
{{- $lists := dict "containers" (prepend $containers $container) "volumes" (concat $ours.spec.template.spec.volumes ($pod.volumes | default list)) -}}
{{- $template = mergeOverwrite $template (dict "spec" $lists) -}}
{{- toYaml (mergeOverwrite $ours (dict "spec" (mergeOverwrite (deepCopy $workers.deployment) (dict "template" $template)))) -}}
{{- end -}}

{{- define "gtm-sync.worker.ours" -}}
{{- $component := dict "root" . "component" "worker" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "gtm-sync.fullname" . }}-worker
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "gtm-sync.selector" $component | nindent 4 }}
    app.kubernetes.io/part-of: gtm-sync
    app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
    app.kubernetes.io/managed-by: gtm-sync
  {{- if .Values.podDisruptionBudget.enabled }}
  annotations:
    sync.gtmclarity.io/disruption-budget: "true"
  {{- end }}
spec:
  selector:
    matchLabels: {{- include "gtm-sync.selector" $component | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "gtm-sync.selector" $component | nindent 8 }}
        app.kubernetes.io/part-of: gtm-sync
        app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
      {{- with .Values.workers.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "gtm-sync.fullname" . }}-worker
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ add .Values.workers.drainSeconds 10 }}
      securityContext: {{- include "gtm-sync.podSecurity" . | nindent 8 }}
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: worker
          image: {{ include "gtm-sync.image" . }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          args: [worker]
          env:
            {{- include "gtm-sync.environment" . | nindent 12 }}
            - name: GTM_IDENTITY_FILE
              value: /etc/gtm-sync/identity/identity
            - name: GTM_RECIPIENTS_DIRECTORY
              value: /etc/gtm-sync/recipients
            - name: GTM_MAX_CONCURRENT_ACTIVITIES
              value: {{ .Values.workers.maxConcurrentActivities | quote }}
            - name: GTM_MAX_CONCURRENT_WORKFLOWS
              value: {{ .Values.workers.maxConcurrentWorkflows | quote }}
            {{- if not (kindIs "invalid" .Values.workers.tenantSyncs) }}
            - name: GTM_TENANT_SYNCS
              value: {{ .Values.workers.tenantSyncs | quote }}
            {{- end }}
            - name: GTM_DRAIN_SECONDS
              value: {{ .Values.workers.drainSeconds | quote }}
            - name: GTM_RECYCLE_AFTER_ACTIVITIES
              value: {{ int64 .Values.workers.recycleAfterActivities | quote }}
            {{- with .Values.workers.allowedPrivateHosts }}
            - name: GTM_ALLOWED_PRIVATE_HOSTS
              value: {{ join "," . | quote }}
            {{- end }}
            {{- if .Values.workers.sourceCaSecret }}
            - name: GTM_SOURCE_CA_FILE
              value: /etc/gtm-sync/source-ca/ca.crt
            {{- end }}
          {{- include "gtm-sync.probes" . | nindent 10 }}
          resources: {{- toYaml .Values.workers.resources | nindent 12 }}
          securityContext: {{- include "gtm-sync.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - name: identity
              mountPath: /etc/gtm-sync/identity
              readOnly: true
            - name: recipients
              mountPath: /etc/gtm-sync/recipients
              readOnly: true
            {{- include "gtm-sync.connectionsMount" . | nindent 12 }}
            {{- if .Values.workers.sourceCaSecret }}
            - name: source-ca
              mountPath: /etc/gtm-sync/source-ca
              readOnly: true
            {{- end }}
      volumes:
        - name: identity
          secret:
            secretName: {{ .Values.workers.identitySecret | default "gtm-sync-identity" }}
            # 0440, readable by the pod's group only.
            defaultMode: 288
            items:
              - key: identity
                path: identity
        # To whom refreshed tokens are sealed when a tenant moves between pools; not there while no tenant has its own.
        - name: recipients
          configMap:
            name: gtm-sync-recipient
            optional: true
        {{- include "gtm-sync.connectionsVolume" . | nindent 8 }}
        {{- with .Values.workers.sourceCaSecret }}
        - name: source-ca
          secret:
            secretName: {{ . }}
        {{- end }}
      {{- with include "gtm-sync.scheduling" .Values.workers }}
      {{- . | trim | nindent 6 }}
      {{- end }}
{{- end -}}
