{{- define "freehold.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "freehold.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Labels that select; called with the root and a component. */}}
{{- define "freehold.selector" -}}
app.kubernetes.io/name: freehold
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "freehold.labels" -}}
{{ include "freehold.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* What a pod may do; called with `none`, `unprivileged` or `privileged`. */}}
{{- define "freehold.podSecurity" -}}
{{- if eq . "privileged" }}
runAsUser: 0
runAsGroup: 0
{{- else }}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
{{- end }}
{{- if eq . "none" }}
seccompProfile:
  type: RuntimeDefault
{{- end }}
{{- end -}}

{{- define "freehold.containerSecurity" -}}
readOnlyRootFilesystem: true
{{- if eq . "privileged" }}
privileged: true
{{- else }}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
{{- end }}
{{- if eq . "unprivileged" }}
# Sandboxes make namespaces, and mount a /proc of their own.
procMount: Unmasked
seccompProfile:
  type: Unconfined
appArmorProfile:
  type: Unconfined
{{- end }}
{{- end -}}

{{- define "freehold.scheduling" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What would start and not work is refused here, where it can be said why. */}}
{{- define "freehold.check" -}}
{{- if gt (int .Values.replicas) 1 }}
{{- if not .Values.database.url }}{{ fail "replicas: more than one needs database.url" }}{{ end }}
{{- if not .Values.storage.blobs }}{{ fail "replicas: more than one needs storage.blobs" }}{{ end }}
{{- if not .Values.masterKeySecret.name }}{{ fail "replicas: more than one needs masterKeySecret.name" }}{{ end }}
{{- if and .Values.tunnels.enabled (not .Values.tunnels.certificateSecret) }}{{ fail "tunnels.certificateSecret: gateways must know every replica by one certificate" }}{{ end }}
{{- end }}
{{- if and .Values.storage.blobs (not (and .Values.storage.accessKeyId .Values.storage.secretKeySecret.name)) }}{{ fail "storage.blobs: accessKeyId and secretKeySecret.name are needed" }}{{ end }}
{{- if lt (int .Values.terminationGracePeriodSeconds) (add (int .Values.preStopSeconds) 12) }}{{ fail "terminationGracePeriodSeconds: must be at least preStopSeconds + 12" }}{{ end }}
{{- if and .Values.worker.enabled (not (and .Values.worker.environmentId .Values.worker.environmentKeySecret.name)) }}{{ fail "worker: environmentId and environmentKeySecret.name are needed" }}{{ end }}
{{- if .Values.gateway.enabled }}
{{- if not (and .Values.gateway.tunnelDomain .Values.gateway.secret .Values.gateway.edge.fingerprint .Values.gateway.routes) }}{{ fail "gateway: tunnelDomain, secret, edge.fingerprint and routes are needed" }}{{ end }}
{{- if not (or .Values.gateway.edge.address .Values.tunnels.enabled) }}{{ fail "gateway.edge.address: needed without tunnels.enabled" }}{{ end }}
{{- end }}
{{- end -}}

{{/* The Secrets that servers read, as files below /run/secrets. */}}
{{- define "freehold.secrets" -}}
{{- $files := list
  (list .Values.database.passwordSecret "database-password" .Values.database.url)
  (list .Values.database.caSecret "database-ca.pem" .Values.database.url)
  (list .Values.storage.secretKeySecret "storage-key" .Values.storage.blobs)
  (list .Values.storage.caSecret "storage-ca.pem" .Values.storage.blobs)
  (list .Values.masterKeySecret "master-key" "always")
  (list .Values.bootstrapKeySecret "bootstrap-key" "always")
  (list .Values.model.keySecret "model-key" .Values.model.url) -}}
{{- range $files }}
{{- $ref := index . 0 }}
{{- if and $ref.name (index . 2) }}
- secret:
    name: {{ $ref.name }}
    items: [{key: {{ $ref.key }}, path: {{ index . 1 }}}]
{{- end }}
{{- end }}
{{- if and .Values.tunnels.enabled .Values.tunnels.certificateSecret }}
- secret:
    name: {{ .Values.tunnels.certificateSecret }}
    items: [{key: tls.crt, path: edge.crt}, {key: tls.key, path: edge.key}]
{{- end }}
{{- end -}}

{{/* The servers' configuration file. */}}
{{- define "freehold.config" -}}
listen = "0.0.0.0:8787"
data_dir = "/var/lib/freehold"
{{- if .Values.bootstrapKeySecret.name }}
bootstrap_key_file = "/run/secrets/bootstrap-key"
{{- end }}
{{- with .Values.database }}
{{- if .url }}
database_url = {{ .url | quote }}
{{- if .passwordSecret.name }}
database_password_file = "/run/secrets/database-password"
{{- end }}
{{- if .caSecret.name }}
database_ca_file = "/run/secrets/database-ca.pem"
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.model.url }}
model_url = {{ .Values.model.url | quote }}
{{- if .Values.model.keySecret.name }}
model_key_file = "/run/secrets/model-key"
{{- end }}
{{- end }}

[log]
format = "json"
level = {{ .Values.logLevel | quote }}

[sandbox]
min_isolation = {{ .Values.sandbox.minIsolation | quote }}
{{- if .Values.masterKeySecret.name }}

[secrets]
key_file = "/run/secrets/master-key"
{{- end }}
{{- with .Values.storage }}
{{- if .blobs }}

[storage]
blobs = {{ .blobs | quote }}
access_key_id = {{ .accessKeyId | quote }}
secret_key_file = "/run/secrets/storage-key"
{{- if .endpoint }}
endpoint = {{ .endpoint | quote }}
{{- end }}
{{- if .region }}
region = {{ .region | quote }}
{{- end }}
{{- if .caSecret.name }}
ca_file = "/run/secrets/storage-ca.pem"
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.tunnels.enabled }}

[tunnels]
domain = {{ .Values.tunnels.domain | quote }}
listen = "0.0.0.0:8788"
{{- if .Values.tunnels.certificateSecret }}
certificate = "/run/secrets/edge.crt"
key = "/run/secrets/edge.key"
{{- end }}
{{- end }}
{{- with .Values.extraConfig }}

{{ . | trim }}
{{- end }}
{{- end -}}
