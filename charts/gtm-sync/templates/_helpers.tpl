{{/* The release's name, with the chart's unless it is in it. */}}
{{- define "gtm-sync.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pods of one component: (dict "root" . "component" "operator"). */}}
{{- define "gtm-sync.selector" -}}
app.kubernetes.io/name: gtm-sync
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of every object of one component. */}}
{{- define "gtm-sync.labels" -}}
{{ include "gtm-sync.selector" . }}
app.kubernetes.io/part-of: gtm-sync
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "gtm-sync.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The one value without which nothing can run. */}}
{{- define "gtm-sync.databaseSecret" -}}
{{- required "database.secretName is not set: name the Secret that holds the URL of the PostgreSQL database (key database.secretKey), e.g. --set database.secretName=gtm-sync-database" .Values.database.secretName -}}
{{- end -}}

{{/* Environment that operator and workers share. */}}
{{- define "gtm-sync.environment" -}}
- name: GTM_DATABASE_URL_FILE
  value: /etc/gtm-sync-connections/database/url
{{- if .Values.database.passwordSecret.name }}
- name: GTM_DATABASE_PASSWORD_FILE
  value: /etc/gtm-sync-connections/database/password
{{- end }}
{{- with .Values.database.tls.mode }}
- name: PGSSLMODE
  value: {{ . }}
{{- end }}
{{- if .Values.database.tls.caSecret }}
- name: PGSSLROOTCERT
  value: /etc/gtm-sync-connections/database/ca.crt
{{- end }}
{{- if .Values.database.tls.clientCertificateSecret }}
- name: PGSSLCERT
  value: /etc/gtm-sync-connections/database/tls.crt
- name: PGSSLKEY
  value: /etc/gtm-sync-connections/database/tls.key
{{- end }}
- name: TEMPORAL_ADDRESS
  value: {{ .Values.temporal.address | quote }}
- name: TEMPORAL_NAMESPACE
  value: {{ .Values.temporal.namespace | quote }}
{{- if .Values.temporal.tls.enabled }}
- name: TEMPORAL_TLS
  value: "true"
{{- end }}
{{- with .Values.temporal.tls.serverName }}
- name: TEMPORAL_TLS_SERVER_NAME
  value: {{ . | quote }}
{{- end }}
{{- if .Values.temporal.tls.caSecret }}
- name: TEMPORAL_TLS_SERVER_CA_CERT_PATH
  value: /etc/gtm-sync-connections/temporal/ca.crt
{{- end }}
{{- if .Values.temporal.tls.clientCertificateSecret }}
- name: TEMPORAL_TLS_CLIENT_CERT_PATH
  value: /etc/gtm-sync-connections/temporal/tls.crt
- name: TEMPORAL_TLS_CLIENT_KEY_PATH
  value: /etc/gtm-sync-connections/temporal/tls.key
{{- end }}
{{- if .Values.temporal.apiKeySecret.name }}
- name: GTM_TEMPORAL_API_KEY_FILE
  value: /etc/gtm-sync-connections/temporal/api-key
{{- end }}
{{- with .Values.clusterId }}
- name: GTM_CLUSTER_ID
  value: {{ . | quote }}
{{- end }}
- name: GTM_LOG
  value: {{ .Values.log.filter | quote }}
- name: GTM_LOG_FORMAT
  value: {{ .Values.log.format }}
{{- end -}}

{{/* What servers demand, as files: they follow their Secrets, and stand in no environment. Not below /etc/gtm-sync, which is a volume. */}}
{{- define "gtm-sync.connectionsMount" -}}
- name: connections
  mountPath: /etc/gtm-sync-connections
  readOnly: true
{{- end -}}
{{- define "gtm-sync.connectionsVolume" -}}
- name: connections
  projected:
    # 0440, readable by the pod's group only.
    defaultMode: 288
    sources:
      - secret:
          name: {{ include "gtm-sync.databaseSecret" . }}
          items:
            - {key: {{ .Values.database.secretKey }}, path: database/url}
      {{- with .Values.database.passwordSecret }}
      {{- if .name }}
      - secret:
          name: {{ .name }}
          items:
            - {key: {{ .key }}, path: database/password}
      {{- end }}
      {{- end }}
      {{- range $folder, $tls := dict "database" .Values.database.tls "temporal" .Values.temporal.tls }}
      {{- with $tls.caSecret }}
      - secret:
          name: {{ . }}
          items:
            - {key: ca.crt, path: {{ $folder }}/ca.crt}
      {{- end }}
      {{- with $tls.clientCertificateSecret }}
      - secret:
          name: {{ . }}
          items:
            - {key: tls.crt, path: {{ $folder }}/tls.crt}
            - {key: tls.key, path: {{ $folder }}/tls.key}
      {{- end }}
      {{- end }}
      {{- with .Values.temporal.apiKeySecret }}
      {{- if .name }}
      - secret:
          name: {{ .name }}
          items:
            - {key: {{ .key }}, path: temporal/api-key}
      {{- end }}
      {{- end }}
{{- end -}}

{{/* Pod and container security as the Pod Security Standard `restricted` asks. */}}
{{- define "gtm-sync.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}
{{- define "gtm-sync.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Both processes serve /livez, /readyz and /metrics on port 8080. */}}
{{- define "gtm-sync.probes" -}}
ports:
  - name: http
    containerPort: 8080
livenessProbe:
  httpGet:
    path: /livez
    port: http
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: 5
{{- end -}}

{{/* Where pods may run, from the values of one component. */}}
{{- define "gtm-sync.scheduling" -}}
{{- with .nodeSelector -}}
nodeSelector: {{- toYaml . | nindent 2 }}
{{ end -}}
{{- with .tolerations -}}
tolerations: {{- toYaml . | nindent 2 }}
{{ end -}}
{{- with .affinity -}}
affinity: {{- toYaml . | nindent 2 }}
{{ end -}}
{{- end -}}
