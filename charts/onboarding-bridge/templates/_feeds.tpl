{{/*
From the values to the feeds: one, or one for each entry of `feeds`, each with its own values.
*/}}

{{/* Lays `over` on `base`: maps key by key, everything else as a whole, `false` and 0 too. */}}
{{- define "onboarding-bridge.merge" -}}
{{- $merged := deepCopy .base -}}
{{- range $key, $value := .over -}}
{{- $old := get $merged $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $old) -}}
{{- $value = include "onboarding-bridge.merge" (dict "base" $old "over" $value) | fromYaml -}}
{{- end -}}
{{- $_ := set $merged $key $value -}}
{{- end -}}
{{- toYaml $merged -}}
{{- end -}}

{{/*
A list of {name, at, fullname, values}: `at` is where its values are written, for messages. The
values of one feed are the release's own with its entry of `feeds` laid over them.
*/}}
{{- define "onboarding-bridge.feeds" -}}
{{- $fullname := include "onboarding-bridge.fullname" . -}}
{{- $own := omit .Values "feeds" "global" "extraObjects" -}}
{{- $feeds := list -}}
{{- range $name, $over := .Values.feeds -}}
{{- $values := include "onboarding-bridge.merge" (dict "base" $own "over" (default dict $over)) | fromYaml -}}
{{- $feed := dict "name" $name "at" (printf "feeds.%s." $name) "fullname" (printf "%s-%s" $fullname $name) -}}
{{- $feeds = append $feeds (set $feed "values" $values) -}}
{{- else -}}
{{- $feeds = append $feeds (dict "name" "" "at" "" "fullname" $fullname "values" $own) -}}
{{- end -}}
{{- toYaml $feeds -}}
{{- end -}}

{{/* Labels that tell the pods of one feed from the others. */}}
{{- define "onboarding-bridge.feedLabels" -}}
{{ include "onboarding-bridge.selectorLabels" .root }}
app.kubernetes.io/component: bridge
{{- with .feed.name }}
onboarding-bridge/feed: {{ . }}
{{- end }}
{{- end -}}

{{/* The bridge's file: what was given, and the two paths that the chart decides. */}}
{{- define "onboarding-bridge.config" -}}
{{- $set := dict "feed" (dict "api_key_file" (include "onboarding-bridge.apiKeyFile" .)) -}}
{{- $_ := set $set "journal" (dict "path" (include "onboarding-bridge.journalPath" .)) -}}
{{- include "onboarding-bridge.merge" (dict "base" .values.config "over" $set) -}}
{{- end -}}

{{- define "onboarding-bridge.apiKeyFile" -}}
/run/secrets/sfox/{{ .values.apiKey.key }}
{{- end -}}

{{- define "onboarding-bridge.journalFolder" -}}
/var/lib/onboarding-bridge
{{- end -}}

{{- define "onboarding-bridge.journalPath" -}}
{{ include "onboarding-bridge.journalFolder" . }}/journal.db
{{- end -}}

{{- define "onboarding-bridge.port" -}}
{{- .values.config.admin.listen | splitList ":" | last -}}
{{- end -}}
