{{/*
What the schema cannot say: values that are wrong together. Each message names the key.
*/}}

{{/* Of one feed: {root, feed}. */}}
{{- define "onboarding-bridge.check" -}}
{{- $at := .feed.at -}}
{{- $values := .feed.values -}}
{{- $config := $values.config -}}
{{- if not (dig "admin" "listen" "" $config) -}}
{{- fail (printf "%sconfig.admin.listen is empty: leave it out, or write 0.0.0.0:PORT" $at) -}}
{{- end -}}
{{- if not $values.apiKey.existingSecret -}}
{{- fail (printf "%sapiKey.existingSecret is empty: name the Secret that holds the enterprise API key" $at) -}}
{{- end -}}
{{- if hasKey (default dict $config.feed) "api_key" -}}
{{- fail (printf "%sconfig.feed.api_key: no credential is written into values; put it into a Secret and name that in %sapiKey.existingSecret" $at $at) -}}
{{- end -}}
{{- $wanted := include "onboarding-bridge.apiKeyFile" .feed -}}
{{- if ne $wanted (dig "feed" "api_key_file" $wanted $config) -}}
{{- fail (printf "%sconfig.feed.api_key_file is set by the chart, to %s; leave it out" $at $wanted) -}}
{{- end -}}
{{- range $section := list "feed" "reconcile" -}}
{{- include "onboarding-bridge.checkUrl" (dict "at" (printf "%sconfig.%s.url" $at $section) "url" (dig $section "url" "" $config)) -}}
{{- end -}}
{{- include "onboarding-bridge.checkUrl" (dict "at" (printf "%sconfig.feed.proxy.url" $at) "url" (dig "feed" "proxy" "url" "" $config)) -}}
{{- if not $config.sinks -}}
{{- fail (printf "%sconfig.sinks is empty: name at least one sink" $at) -}}
{{- end -}}
{{- if gt (len .feed.fullname) 52 -}}
{{- fail (printf "%s is too long a name for a StatefulSet, which may have 52 characters: shorten feeds.%s, or set fullnameOverride" .feed.fullname .feed.name) -}}
{{- end -}}
{{- if regexMatch "^[0-9]" .feed.fullname -}}
{{- fail (printf "%s is no name for a Service, which begins with a letter: set fullnameOverride" .feed.fullname) -}}
{{- end -}}
{{- include "onboarding-bridge.checkSecrets" . -}}
{{- include "onboarding-bridge.checkPaths" (dict "feed" .feed "at" (printf "%sconfig" $at) "value" $config) -}}
{{- $names := dict -}}
{{- range $index, $sink := $config.sinks -}}
{{- if hasKey $names (toString $sink.name) -}}
{{- fail (printf "%sconfig.sinks[%d].name: %s is the name of sinks[%v] already; each sink has a cursor by its name" $at $index $sink.name (get $names (toString $sink.name))) -}}
{{- end -}}
{{- $_ := set $names (toString $sink.name) (toString $index) -}}
{{- include "onboarding-bridge.checkSink" (dict "feed" $.feed "at" (printf "%sconfig.sinks[%d]" $at $index) "sink" $sink) -}}
{{- end -}}
{{- include "onboarding-bridge.checkVolume" . -}}
{{- include "onboarding-bridge.checkPod" . -}}
{{- end -}}

{{- define "onboarding-bridge.checkSecrets" -}}
{{- $at := .feed.at -}}
{{- range $name, $source := .feed.values.secrets -}}
{{- if eq $name "sfox" -}}
{{- fail (printf "%ssecrets.sfox: the name is taken by the API key, see %sapiKey" $at $at) -}}
{{- end -}}
{{- if eq (empty $source.secretName) (empty $source.configMapName) -}}
{{- fail (printf "%ssecrets.%s needs either secretName or configMapName" $at $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Every file that the configuration names, at any depth, must be in the pod: {feed, at, value}. */}}
{{- define "onboarding-bridge.checkPaths" -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- $at := printf "%s.%s" $.at $key -}}
{{- if regexMatch "(_file|[.]location|[.]file|[.]keytab)$" $key -}}
{{- include "onboarding-bridge.checkPath" (dict "feed" $.feed "at" $at "path" $value) -}}
{{- else if hasSuffix "_files" $key -}}
{{- range $index, $path := $value -}}
{{- include "onboarding-bridge.checkPath" (dict "feed" $.feed "at" (printf "%s[%d]" $at $index) "path" $path) -}}
{{- end -}}
{{- else -}}
{{- include "onboarding-bridge.checkPaths" (dict "feed" $.feed "at" $at "value" $value) -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $index, $value := .value -}}
{{- include "onboarding-bridge.checkPaths" (dict "feed" $.feed "at" (printf "%s[%d]" $.at $index) "value" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "onboarding-bridge.checkPath" -}}
{{- $path := toString .path -}}
{{- $secrets := .feed.values.secrets -}}
{{- if kindIs "invalid" .path -}}
{{- else if hasPrefix "/run/secrets/" $path -}}
{{- $name := splitList "/" $path | rest | rest | rest | first -}}
{{- if and (ne $name "sfox") (not (hasKey $secrets $name)) -}}
{{- fail (printf "%s: %s is not in the pod, because there is no %ssecrets.%s; name there the Secret that it comes from" .at $path .feed.at (default "NAME" $name)) -}}
{{- else if not (regexMatch "^/run/secrets/[^/]+/[^/]" $path) -}}
{{- fail (printf "%s: %s is a folder; add the key of the Secret" .at $path) -}}
{{- end -}}
{{- else if not (or (eq $path "probe") (hasPrefix "/etc/ssl/" $path) (include "onboarding-bridge.isMounted" .)) -}}
{{- fail (printf "%s: %s is not in the pod; mount it by %ssecrets (then it is /run/secrets/NAME/KEY) or by %sextraVolumeMounts" .at $path .feed.at .feed.at) -}}
{{- end -}}
{{- end -}}

{{- define "onboarding-bridge.isMounted" -}}
{{- $path := toString .path -}}
{{- range .feed.values.extraVolumeMounts -}}
{{- if or (eq .mountPath $path) (hasPrefix (printf "%s/" (trimSuffix "/" .mountPath)) $path) -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{/* {at, url}: an address names nobody. */}}
{{- define "onboarding-bridge.checkUrl" -}}
{{- if regexMatch "://[^/?#]*@" (toString .url) -}}
{{- fail (printf "%s has a user or a password before the @: no credential is written into values; leave it out of the address" .at) -}}
{{- end -}}
{{- end -}}

{{- define "onboarding-bridge.checkSink" -}}
{{- range splitList "," (toString (default "" .sink.url)) -}}
{{- include "onboarding-bridge.checkUrl" (dict "at" (printf "%s.url" $.at) "url" .) -}}
{{- end -}}
{{- range $option, $value := .sink.options -}}
{{- if and (regexMatch "password|passphrase|secret|oauthbearer[.]config|key[.]pem" $option) (not (hasSuffix "_file" $option)) -}}
{{- fail (printf "%s.options.%s: no credential is written into values; use %s_file with the path of a mounted Secret" $.at $option $option) -}}
{{- end -}}
{{- end -}}
{{- if eq .sink.type "file" -}}
{{- $path := toString .sink.path -}}
{{- $journal := printf "%s/" (include "onboarding-bridge.journalFolder" .) -}}
{{- if not (or (eq $path "-") (hasPrefix $journal $path) (include "onboarding-bridge.isMounted" (dict "feed" .feed "path" $path))) -}}
{{- fail (printf "%s.path: %s cannot be written in the pod; use \"-\", a path under %s, or one of %sextraVolumeMounts" .at $path $journal .feed.at) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "onboarding-bridge.checkVolume" -}}
{{- $persistence := .feed.values.persistence -}}
{{- $journal := dig "journal" "max_bytes" "8GiB" .feed.values.config -}}
{{- $needed := add (include "onboarding-bridge.bytes" $journal | int64) 67108864 -}}
{{- if and (not $persistence.existingClaim) (lt (include "onboarding-bridge.bytes" $persistence.size | int64) $needed) -}}
{{- fail (printf "%spersistence.size %v is too small for %sconfig.journal.max_bytes %v, which needs 64 MiB besides" .feed.at $persistence.size .feed.at $journal) -}}
{{- end -}}
{{- end -}}

{{- define "onboarding-bridge.checkPod" -}}
{{- $at := .feed.at -}}
{{- range .feed.values.extraEnv -}}
{{- if eq .name "RUST_LOG" -}}
{{- fail (printf "%sextraEnv: RUST_LOG is set by the chart; use logLevel" $at) -}}
{{- end -}}
{{- if hasPrefix "BRIDGE__" .name -}}
{{- fail (printf "%sextraEnv: %s belongs in %sconfig, where it is checked" $at .name $at) -}}
{{- end -}}
{{- end -}}
{{- range $label, $_ := .feed.values.podLabels -}}
{{- if has $label (include "onboarding-bridge.ownLabels" . | fromYamlArray) -}}
{{- fail (printf "%spodLabels: %s is set by the chart" $at $label) -}}
{{- end -}}
{{- end -}}
{{- range .feed.values.extraVolumes -}}
{{- if or (has .name (list "config" "journal" "api-key")) (hasPrefix "secret-" .name) -}}
{{- fail (printf "%sextraVolumes: the name %s is taken by the chart" $at .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The labels that the chart sets; some of them select the pods. */}}
{{- define "onboarding-bridge.ownLabels" -}}
[helm.sh/chart, app.kubernetes.io/name, app.kubernetes.io/instance, app.kubernetes.io/component, app.kubernetes.io/version, app.kubernetes.io/managed-by, onboarding-bridge/feed]
{{- end -}}

{{/* Of all feeds together: {root, feeds}. */}}
{{- define "onboarding-bridge.checkAll" -}}
{{- range $label, $_ := .root.Values.commonLabels -}}
{{- if has $label (include "onboarding-bridge.ownLabels" . | fromYamlArray) -}}
{{- fail (printf "commonLabels: %s is set by the chart" $label) -}}
{{- end -}}
{{- end -}}
{{- $keys := dict -}}
{{- $claims := dict -}}
{{- $producers := dict -}}
{{- $connections := 0 -}}
{{- $requests := 0 -}}
{{- range $feed := .feeds -}}
{{- include "onboarding-bridge.check" (dict "root" $.root "feed" $feed) -}}
{{- $key := printf "%s/%s" $feed.values.apiKey.existingSecret $feed.values.apiKey.key -}}
{{- if hasKey $keys $key -}}
{{- fail (printf "feeds.%s.apiKey is that of feeds.%s: two bridges with one key publish everything twice" $feed.name (get $keys $key)) -}}
{{- end -}}
{{- $_ := set $keys $key $feed.name -}}
{{- with $feed.values.persistence.existingClaim -}}
{{- if hasKey $claims . -}}
{{- fail (printf "feeds.%s.persistence.existingClaim is that of feeds.%s: two bridges cannot share a journal" $feed.name (get $claims .)) -}}
{{- end -}}
{{- $_ := set $claims . $feed.name -}}
{{- end -}}
{{- range $index, $sink := $feed.values.config.sinks -}}
{{- if $sink.exactly_once -}}
{{- $producer := default (printf "onboarding-bridge.%s.%s" $sink.topic $sink.name) $sink.transactional_id -}}
{{- $where := printf "%sconfig.sinks[%d]" $feed.at $index -}}
{{- if hasKey $producers $producer -}}
{{- fail (printf "%s.transactional_id: %s is that of %s too, and each would shut the other out; give each its own" $where $producer (get $producers $producer)) -}}
{{- end -}}
{{- $_ := set $producers $producer $where -}}
{{- end -}}
{{- end -}}
{{- $connections = add $connections (dig "feed" "limits" "connections" 5 $feed.values.config) -}}
{{- $requests = add $requests (dig "feed" "limits" "requests_per_minute" 20 $feed.values.config) -}}
{{- end -}}
{{- $count := len .feeds -}}
{{- $allowed := dict "connections" 10 "requests" 40 "and" "" -}}
{{- if .root.Values.test.enabled -}}
{{- $allowed = dict "connections" 9 "requests" 36 "and" ", of which a helm test needs 1 and 4 (test.enabled)" -}}
{{- end -}}
{{- if and .root.Values.vendorLimits.sharedAddress (lt (div $allowed.connections $count | int) 2) -}}
{{- fail (printf "feeds: %d are too many for one address: the vendor allows it 10 connections%s, and each bridge needs 2; so at most %d, or vendorLimits.sharedAddress is false" $count $allowed.and (div $allowed.connections 2)) -}}
{{- end -}}
{{- if and .root.Values.vendorLimits.sharedAddress (or (gt $connections (int $allowed.connections)) (gt $requests (int $allowed.requests))) -}}
{{- fail (printf "config.feed.limits: the %d feeds together may open %d connections and make %d requests a minute, and the vendor allows an address 10 and 40%s; set config.feed.limits to {connections: %d, requests_per_minute: %d}, or vendorLimits.sharedAddress to false if each has an address of its own" $count $connections $requests $allowed.and (div $allowed.connections $count) (div $allowed.requests $count)) -}}
{{- end -}}
{{- end -}}
