{{/*
What a ServiceMonitor and a PodMonitor have in common.
*/}}

{{/*
{root, values, name}: the head of an object for Prometheus or Grafana. In a namespace that other
releases of the same name may share, the name begins with that of the release's own.
*/}}
{{- define "onboarding-bridge.monitoringMetadata" -}}
{{- $own := .root.Release.Namespace -}}
{{- $namespace := default $own .values.namespace -}}
name: {{ eq $namespace $own | ternary .name (printf "%s-%s" $own .name) }}
namespace: {{ $namespace }}
labels:
  {{- include "onboarding-bridge.labels" .root | nindent 2 }}
  {{- with .values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* {root, values}: how one target is scraped. */}}
{{- define "onboarding-bridge.endpoint" -}}
port: metrics
path: /metrics
{{- with .values.interval }}
interval: {{ . }}
{{- end }}
{{- with .values.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
relabelings:
  # One name whatever the release is called: alerts and dashboards know the bridge by it.
  - targetLabel: job
    replacement: onboarding-bridge
  # The pod's name and not its address, which is another after each restart: counters go on.
  - sourceLabels: [__meta_kubernetes_pod_name]
    targetLabel: instance
  {{- if .root.Values.feeds }}
  - sourceLabels: [__meta_kubernetes_pod_label_onboarding_bridge_feed]
    targetLabel: feed
  {{- end }}
  {{- with .values.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "onboarding-bridge.monitorSelector" -}}
namespaceSelector:
  matchNames: [{{ .Release.Namespace }}]
selector:
  matchLabels:
    {{- include "onboarding-bridge.selectorLabels" . | nindent 4 }}
{{- end -}}
