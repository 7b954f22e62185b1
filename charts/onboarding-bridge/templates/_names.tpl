{{/*
Names, labels and the image. Nothing here looks at the configuration.
*/}}

{{- define "onboarding-bridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters: a StatefulSet adds eleven for the label of a revision, which has 63. */}}
{{- define "onboarding-bridge.fullname" -}}
{{- $name := include "onboarding-bridge.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "onboarding-bridge.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "onboarding-bridge.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What selects the bridges of this release; never changed, because a StatefulSet cannot change it. */}}
{{- define "onboarding-bridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "onboarding-bridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "onboarding-bridge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (replace "+" "_" .Chart.Version) | trunc 63 | trimSuffix "-" }}
{{ include "onboarding-bridge.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "onboarding-bridge.image" -}}
{{- $image := .Values.image -}}
{{- $registry := default $image.registry (dig "imageRegistry" "" (default dict .Values.global)) -}}
{{- with $registry }}{{ . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest -}}
@{{ $image.digest }}
{{- else -}}
:{{ default .Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}
