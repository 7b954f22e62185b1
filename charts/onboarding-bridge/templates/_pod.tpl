{{/*
What the bridge's pod and the pod of `helm test` have in common. {root, feed} each.
*/}}

{{- define "onboarding-bridge.podSpec" -}}
serviceAccountName: {{ include "onboarding-bridge.serviceAccountName" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .feed.values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .feed.values.podSecurityContext | nindent 2 }}
{{- with .feed.values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .feed.values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .feed.values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .feed.values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "onboarding-bridge.container" -}}
image: {{ include "onboarding-bridge.image" .root }}
imagePullPolicy: {{ .feed.values.image.pullPolicy }}
securityContext:
  {{- toYaml .feed.values.securityContext | nindent 2 }}
{{- if or .feed.values.logLevel .feed.values.extraEnv }}
env:
  {{- with .feed.values.logLevel }}
  - name: RUST_LOG
    value: {{ . | quote }}
  {{- end }}
  {{- with .feed.values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with .feed.values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .feed.values.resources | nindent 2 }}
{{- end -}}

{{/* Whole folders and no subPath: the kubelet never renews a file that is mounted by subPath. */}}
{{- define "onboarding-bridge.mounts" -}}
- name: config
  mountPath: /etc/onboarding-bridge
  readOnly: true
- name: journal
  mountPath: {{ include "onboarding-bridge.journalFolder" . }}
- name: api-key
  mountPath: /run/secrets/sfox
  readOnly: true
{{- range $name, $_ := .feed.values.secrets }}
- name: secret-{{ $name }}
  mountPath: /run/secrets/{{ $name }}
  readOnly: true
{{- end }}
{{- with .feed.values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Without the journal's, which the StatefulSet and the test have each their own way. */}}
{{- define "onboarding-bridge.volumes" -}}
- name: config
  configMap:
    name: {{ .feed.fullname }}-config
- name: api-key
  secret:
    secretName: {{ .feed.values.apiKey.existingSecret }}
    defaultMode: 0440
{{- range $name, $source := .feed.values.secrets }}
- name: secret-{{ $name }}
  {{- with $source.secretName }}
  secret:
    secretName: {{ . }}
    defaultMode: 0440
  {{- end }}
  {{- with $source.configMapName }}
  configMap:
    name: {{ . }}
  {{- end }}
{{- end }}
{{- with .feed.values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "onboarding-bridge.probe" -}}
httpGet:
  path: {{ .path }}
  port: metrics
{{ toYaml .values }}
{{- end -}}

{{/* A constraint that says which pods it counts is left as it is. */}}
{{- define "onboarding-bridge.spread" -}}
{{- $constraints := list -}}
{{- range .feed.values.topologySpreadConstraints -}}
{{- $constraint := deepCopy . -}}
{{- if not (hasKey . "labelSelector") -}}
{{- $_ := set $constraint "labelSelector" (dict "matchLabels" (include "onboarding-bridge.selectorLabels" $.root | fromYaml)) -}}
{{- end -}}
{{- $constraints = append $constraints $constraint -}}
{{- end -}}
{{- toYaml $constraints -}}
{{- end -}}

{{/* The time to drain, and ten seconds to close each sink (three at most) and the journal. */}}
{{- define "onboarding-bridge.grace" -}}
{{- $drain := include "onboarding-bridge.milliseconds" (dig "shutdown" "drain" "25s" .feed.values.config) | int64 -}}
{{- add (div (add $drain 999) 1000) 10 -}}
{{- end -}}
