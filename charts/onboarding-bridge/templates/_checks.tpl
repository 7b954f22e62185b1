{{/*
What the schema cannot say: values that are wrong together, or wrong in a way that needs a sentence.
Each check prints a line for what it finds; the line names the key. All lines are one message, so that
nobody meets his mistakes one by one. What is under `config` the bridge would refuse at its start too:
src/config/validate.rs.
*/}}

{{/* Of one feed: {root, feed}. */}}
{{- define "onboarding-bridge.check" -}}
{{- $at := .feed.at -}}
{{- $values := .feed.values -}}
{{- $config := $values.config -}}
{{- $listen := dig "admin" "listen" "" $config -}}
{{- if not $listen -}}
{{- printf "%sconfig.admin.listen is empty: leave it out, or write 0.0.0.0:PORT\n" $at -}}
{{- else if not (regexMatch "^(0[.]0[.]0[.]0|\\[::\\]):([1-9][0-9]{3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$" $listen) -}}
{{- printf "%sconfig.admin.listen: %s is not for Prometheus and the probes, which come from outside of the pod; write 0.0.0.0:PORT or [::]:PORT, PORT from 1000 to 65535\n" $at $listen -}}
{{- end -}}
{{- if not $values.apiKey.existingSecret -}}
{{- printf "%sapiKey.existingSecret is empty: name the Secret that holds the enterprise API key\n" $at -}}
{{- end -}}
{{- if hasKey (default dict $config.feed) "api_key" -}}
{{- printf "%sconfig.feed.api_key: no credential is written into values; put it into a Secret and name that in %sapiKey.existingSecret\n" $at $at -}}
{{- end -}}
{{- include "onboarding-bridge.checkAddress" (dict "at" (printf "%sconfig.feed.url" $at) "url" (dig "feed" "url" "wss://ws.sfox.com/ws" $config) "secure" "wss" "open" "ws" "insecure" (dig "feed" "allow_insecure" false $config)) -}}
{{- include "onboarding-bridge.checkAddress" (dict "at" (printf "%sconfig.reconcile.url" $at) "url" (dig "reconcile" "url" "https://api.sfox.com" $config) "secure" "https" "open" "http" "insecure" (dig "reconcile" "allow_insecure" false $config)) -}}
{{- with dig "feed" "proxy" nil $config -}}
{{- include "onboarding-bridge.checkProxy" (dict "at" (printf "%sconfig.feed.proxy" $at) "proxy" .) -}}
{{- end -}}
{{- include "onboarding-bridge.checkPrivacy" (dict "at" (printf "%sconfig.privacy" $at) "privacy" (default dict $config.privacy)) -}}
{{- if not $config.sinks -}}
{{- printf "%sconfig.sinks is empty: name at least one sink\n" $at -}}
{{- end -}}
{{- if gt (len .feed.fullname) 52 -}}
{{- printf "%s is too long a name for a StatefulSet, which may have 52 characters: shorten feeds.%s, or set fullnameOverride\n" .feed.fullname .feed.name -}}
{{- end -}}
{{- if regexMatch "^[0-9]" .feed.fullname -}}
{{- printf "%s is no name for a Service, which begins with a letter: set fullnameOverride\n" .feed.fullname -}}
{{- end -}}
{{- include "onboarding-bridge.checkSecrets" . -}}
{{- include "onboarding-bridge.checkPaths" (dict "feed" .feed "at" (printf "%sconfig" $at) "value" $config) -}}
{{- $names := dict -}}
{{- range $index, $sink := $config.sinks -}}
{{- $where := printf "%sconfig.sinks[%d]" $at $index -}}
{{- if not (regexMatch "^[A-Za-z0-9_-]{1,64}$" (toString $sink.name)) -}}
{{- printf "%s.name: %v is no name of a sink; write 1 to 64 letters, digits, - or _\n" $where $sink.name -}}
{{- end -}}
{{- if hasKey $names (toString $sink.name) -}}
{{- printf "%s.name: %s is the name of sinks[%v] already; each sink has a cursor by its name\n" $where $sink.name (get $names (toString $sink.name)) -}}
{{- end -}}
{{- $_ := set $names (toString $sink.name) (toString $index) -}}
{{- $checks := dict "kafka" "onboarding-bridge.checkKafka" "nats" "onboarding-bridge.checkNats" "file" "onboarding-bridge.checkFile" -}}
{{- include (get $checks $sink.type) (dict "feed" $.feed "at" $where "sink" $sink) -}}
{{- end -}}
{{- include "onboarding-bridge.checkVolume" . -}}
{{- include "onboarding-bridge.checkPod" . -}}
{{- end -}}

{{- define "onboarding-bridge.checkSecrets" -}}
{{- $at := .feed.at -}}
{{- range $name, $source := .feed.values.secrets -}}
{{- if eq $name "sfox" -}}
{{- printf "%ssecrets.sfox: the name is taken by the API key, see %sapiKey\n" $at $at -}}
{{- end -}}
{{- if eq (empty $source.secretName) (empty $source.configMapName) -}}
{{- printf "%ssecrets.%s needs either secretName or configMapName\n" $at $name -}}
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
{{- $apiKey := include "onboarding-bridge.apiKeyFile" .feed -}}
{{- $secrets := .feed.values.secrets -}}
{{- if kindIs "invalid" .path -}}
{{- else if eq .at (printf "%sconfig.feed.api_key_file" .feed.at) -}}
{{- if ne $path $apiKey -}}
{{- printf "%s is set by the chart, to %s; leave it out\n" .at $apiKey -}}
{{- end -}}
{{- else if hasPrefix "/run/secrets/" $path -}}
{{- $name := splitList "/" $path | rest | rest | rest | first -}}
{{- $isKnown := or (eq $name "sfox") (hasKey $secrets $name) -}}
{{- $isFile := regexMatch "^/run/secrets/[^/]+/[^/]" $path -}}
{{- if and $isKnown (not $isFile) -}}
{{- printf "%s: %s is a folder; add the key of the Secret\n" .at $path -}}
{{- else if not $isFile -}}
{{- printf "%s: %s is not in the pod, where each Secret is a folder; write /run/secrets/NAME/KEY, and name the Secret in %ssecrets.NAME\n" .at $path .feed.at -}}
{{- else if not $isKnown -}}
{{- printf "%s: %s is not in the pod, because there is no %ssecrets.%s; name there the Secret that it comes from\n" .at $path .feed.at $name -}}
{{- end -}}
{{- else if not (or (eq $path "/etc/ssl/certs/ca-certificates.crt") (and (hasSuffix ".location" .at) (has $path (list "probe" "/etc/ssl/certs"))) (include "onboarding-bridge.isMounted" .)) -}}
{{- printf "%s: %s is not in the pod; mount it by %ssecrets (then it is /run/secrets/NAME/KEY) or by %sextraVolumeMounts; the image itself has /etc/ssl/certs/ca-certificates.crt alone\n" .at $path .feed.at .feed.at -}}
{{- end -}}
{{- end -}}

{{- define "onboarding-bridge.isMounted" -}}
{{- $path := toString .path -}}
{{- range .feed.values.extraVolumeMounts -}}
{{- if or (eq .mountPath $path) (hasPrefix (printf "%s/" (trimSuffix "/" .mountPath)) $path) -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{/* {at, url, secure, open, insecure}: an address names nobody, and the open scheme stays in the pod. */}}
{{- define "onboarding-bridge.checkAddress" -}}
{{- $url := toString .url -}}
{{- $rest := regexReplaceAll "^[a-z]+://" $url "" -}}
{{- if regexMatch "://[^/?#]*@" $url -}}
{{- printf "%s has a user or a password before the @: no credential is written into values; leave it out of the address\n" .at -}}
{{- else if not (regexMatch (printf "^(%s|%s)://." .secure .open) $url) -}}
{{- printf "%s: %s is no address such as %s://host\n" .at (default "empty" $url) .secure -}}
{{- else if not (or .insecure (hasPrefix (printf "%s://" .secure) $url) (include "onboarding-bridge.isLoopback" $rest)) -}}
{{- printf "%s: %s:// to another machine is not encrypted; use %s://, or set allow_insecure: true beside it\n" .at .open .secure -}}
{{- end -}}
{{- end -}}

{{/* Whether `host:port/path` is the pod itself. */}}
{{- define "onboarding-bridge.isLoopback" -}}
{{- if regexMatch "^(localhost|127([.][0-9]{1,3}){3}|\\[(localhost|::1)\\])([:/?]|$)" . -}}yes{{- end -}}
{{- end -}}

{{- define "onboarding-bridge.checkProxy" -}}
{{- if regexMatch "://[^/?#]*@" (toString .proxy.url) -}}
{{- printf "%s.url has a user or a password before the @: no credential is written into values; use user with password_file\n" .at -}}
{{- else if not (regexMatch "^http://[^/?#]+/*$" (toString .proxy.url)) -}}
{{- printf "%s.url: %v is no address such as http://host:3128\n" .at (default "empty" .proxy.url) -}}
{{- end -}}
{{- include "onboarding-bridge.checkPair" (dict "at" .at "value" .proxy "one" "user" "other" "password_file") -}}
{{- end -}}

{{/* {at, value, one, other}: neither key is of use alone. */}}
{{- define "onboarding-bridge.checkPair" -}}
{{- if ne (empty (get .value .one)) (empty (get .value .other)) -}}
{{- printf "%s: %s goes with %s; give both or none\n" .at .one .other -}}
{{- end -}}
{{- end -}}

{{- define "onboarding-bridge.checkPrivacy" -}}
{{- $at := .at -}}
{{- $privacy := .privacy -}}
{{- $token := default "drop" $privacy.user_token -}}
{{- if not $privacy.hmac_key_file -}}
{{- range $field, $policy := $privacy.fields -}}
{{- if eq $policy "hmac" -}}
{{- printf "%s.fields.%s: hmac needs %s.hmac_key_file\n" $at $field $at -}}
{{- end -}}
{{- end -}}
{{- if eq (default "plain" $privacy.key) "hmac" -}}
{{- printf "%s.key: hmac needs %s.hmac_key_file\n" $at $at -}}
{{- end -}}
{{- if eq $token "fingerprint" -}}
{{- printf "%s.user_token: fingerprint needs %s.hmac_key_file\n" $at $at -}}
{{- end -}}
{{- if $privacy.hmac_key_version -}}
{{- printf "%s.hmac_key_version is of no use without %s.hmac_key_file\n" $at $at -}}
{{- end -}}
{{- end -}}
{{- $recipients := or $privacy.token_recipients $privacy.token_recipients_file -}}
{{- if and (eq $token "encrypt") (not $recipients) -}}
{{- printf "%s.user_token: encrypt needs the public key of a consumer; set %s.token_recipients or %s.token_recipients_file\n" $at $at $at -}}
{{- else if and (ne $token "encrypt") $recipients -}}
{{- printf "%s.token_recipients and %s.token_recipients_file: either is of no use without %s.user_token: encrypt\n" $at $at $at -}}
{{- end -}}
{{- end -}}

{{/* Of a sink: {feed, at, sink}. */}}
{{- define "onboarding-bridge.checkKafka" -}}
{{- $at := .at -}}
{{- $sink := .sink -}}
{{- range list "brokers" "topic" -}}
{{- if not (get $sink .) -}}
{{- printf "%s.%s is empty\n" $at . -}}
{{- end -}}
{{- end -}}
{{- if and $sink.transactional_id (not $sink.exactly_once) -}}
{{- printf "%s.transactional_id is of no use without exactly_once: true\n" $at -}}
{{- end -}}
{{- $reserved := include "onboarding-bridge.reservedKafkaOptions" . | fromJsonArray -}}
{{- range $option, $value := $sink.options -}}
{{- if and (regexMatch "password|passphrase|secret|oauthbearer[.]config|key[.]pem" $option) (not (hasSuffix "_file" $option)) -}}
{{- printf "%s.options.%s: no credential is written into values; use %s_file with the path of a mounted Secret\n" $at $option $option -}}
{{- else if has $option $reserved -}}
{{- printf "%s.options.%s is set by the bridge, because its promise rests on it; leave it out\n" $at $option -}}
{{- else if and (hasPrefix "sasl.mechanism" $option) (has (toString $value | upper) (list "OAUTHBEARER" "GSSAPI")) -}}
{{- printf "%s.options.%s: %s is not built in; use SCRAM-SHA-512, PLAIN within TLS, or a client certificate\n" $at $option $value -}}
{{- end -}}
{{- end -}}
{{- $protocol := get (default dict $sink.options) "security.protocol" | toString | lower -}}
{{- range $sink.brokers -}}
{{- if not (or $sink.allow_insecure (hasSuffix "ssl" $protocol) (include "onboarding-bridge.isLoopback" .)) -}}
{{- printf "%s.brokers: %s would be reached in plaintext; set security.protocol: ssl (or sasl_ssl) in %s.options, or %s.allow_insecure: true\n" $at . $at $at -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* As "bootstrap.servers",
"metadata.broker.list",
"enable.idempotence",
"acks",
"request.required.acks",
"partitioner",
"transactional.id",
"transaction.timeout.ms",
"isolation.level",
"message.timeout.ms",
"delivery.timeout.ms",
"retries",
"message.send.max.retries",
"max.in.flight",
"max.in.flight.requests.per.connection",
"allow.auto.create.topics",
"enable.gapless.guarantee",
"delivery.report.only.error"_KAFKA_OPTIONS of src/config/validate.rs. */}}
{{- define "onboarding-bridge.reservedKafkaOptions" -}}
[
"bootstrap.servers",
"metadata.broker.list",
"enable.idempotence",
"acks",
"request.required.acks",
"partitioner",
"transactional.id",
"transaction.timeout.ms",
"isolation.level",
"message.timeout.ms",
"delivery.timeout.ms",
"retries",
"message.send.max.retries",
"max.in.flight",
"max.in.flight.requests.per.connection",
"allow.auto.create.topics",
"enable.gapless.guarantee",
"delivery.report.only.error"
]
{{- end -}}

{{- define "onboarding-bridge.checkNats" -}}
{{- $at := .at -}}
{{- $sink := .sink -}}
{{- range splitList "," (toString $sink.url) -}}
{{- include "onboarding-bridge.checkAddress" (dict "at" (printf "%s.url" $at) "url" (trim .) "secure" "tls" "open" "nats" "insecure" $sink.allow_insecure) -}}
{{- end -}}
{{- if not $sink.stream -}}
{{- printf "%s.stream is empty\n" $at -}}
{{- end -}}
{{- $logins := list -}}
{{- range list "credentials_file" "nkey_seed_file" "token_file" "user" -}}
{{- if get $sink . -}}
{{- $logins = append $logins . -}}
{{- end -}}
{{- end -}}
{{- if gt (len $logins) 1 -}}
{{- printf "%s: %s and %s are two ways to log in; give one\n" $at (index $logins 0) (index $logins 1) -}}
{{- end -}}
{{- include "onboarding-bridge.checkPair" (dict "at" $at "value" $sink "one" "user" "other" "password_file") -}}
{{- include "onboarding-bridge.checkPair" (dict "at" $at "value" $sink "one" "client_cert_file" "other" "client_key_file") -}}
{{- end -}}

{{- define "onboarding-bridge.checkFile" -}}
{{- $path := toString .sink.path -}}
{{- $journal := printf "%s/" (include "onboarding-bridge.journalFolder" .) -}}
{{- if not (or (eq $path "-") (hasPrefix $journal $path) (include "onboarding-bridge.isMounted" (dict "feed" .feed "path" $path))) -}}
{{- printf "%s.path: %s cannot be written in the pod; use \"-\", a path under %s, or one of %sextraVolumeMounts\n" .at $path $journal .feed.at -}}
{{- end -}}
{{- end -}}

{{- define "onboarding-bridge.checkVolume" -}}
{{- $persistence := .feed.values.persistence -}}
{{- $journal := dig "journal" "max_bytes" "8GiB" .feed.values.config -}}
{{- $needed := add (include "onboarding-bridge.bytes" $journal | int64) 67108864 -}}
{{- if and (not $persistence.existingClaim) (lt (include "onboarding-bridge.bytes" $persistence.size | int64) $needed) -}}
{{- printf "%spersistence.size %v is too small for %sconfig.journal.max_bytes %v, which needs 64 MiB besides\n" .feed.at $persistence.size .feed.at $journal -}}
{{- end -}}
{{- end -}}

{{- define "onboarding-bridge.checkPod" -}}
{{- $at := .feed.at -}}
{{- range .feed.values.extraEnv -}}
{{- if eq .name "RUST_LOG" -}}
{{- printf "%sextraEnv: RUST_LOG is set by the chart; use logLevel\n" $at -}}
{{- end -}}
{{- if hasPrefix "BRIDGE__" .name -}}
{{- printf "%sextraEnv: %s belongs in %sconfig, where it is checked\n" $at .name $at -}}
{{- end -}}
{{- end -}}
{{- range $label, $_ := .feed.values.podLabels -}}
{{- if has $label (include "onboarding-bridge.ownLabels" . | fromYamlArray) -}}
{{- printf "%spodLabels: %s is set by the chart\n" $at $label -}}
{{- end -}}
{{- end -}}
{{- $volumes := list "config" "journal" "api-key" -}}
{{- range $name, $_ := .feed.values.secrets -}}
{{- $volumes = append $volumes (printf "secret-%s" $name) -}}
{{- end -}}
{{- range .feed.values.extraVolumes -}}
{{- if or (has .name (list "config" "journal" "api-key")) (hasPrefix "secret-" .name) -}}
{{- printf "%sextraVolumes: the name %s is taken by the chart\n" $at .name -}}
{{- end -}}
{{- $volumes = append $volumes .name -}}
{{- end -}}
{{- range $index, $mount := .feed.values.extraVolumeMounts -}}
{{- if not (has $mount.name $volumes) -}}
{{- printf "%sextraVolumeMounts[%d].name: there is no volume %s; add it to %sextraVolumes, or name one of %s\n" $at $index $mount.name $at (join ", " $volumes) -}}
{{- end -}}
{{- end -}}
{{- range $kind := list "requests" "limits" -}}
{{- range $name, $amount := get $.feed.values.resources $kind -}}
{{- if not (regexMatch "^[+]?([0-9]+[.]?[0-9]*|[.][0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]+)?$" (toString $amount)) -}}
{{- printf "%sresources.%s.%s: %v is no quantity of Kubernetes; write it as in 256Mi, 1Gi or 500m\n" $at $kind $name $amount -}}
{{- end -}}
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
{{- printf "commonLabels: %s is set by the chart\n" $label -}}
{{- end -}}
{{- end -}}
{{- with .root.Values.logLevel -}}
{{- if not (regexMatch "^((([A-Za-z0-9_]+(::[A-Za-z0-9_]+)*=)?(off|error|warn|info|debug|trace))(,|$))*$" .) -}}
{{- printf "logLevel: %s is no level; write one of error, warn, info, debug, trace and off, or one for each module: info,onboarding_bridge::feed=debug\n" . -}}
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
{{- printf "feeds.%s.apiKey is that of feeds.%s: two bridges with one key publish everything twice\n" $feed.name (get $keys $key) -}}
{{- end -}}
{{- $_ := set $keys $key $feed.name -}}
{{- with $feed.values.persistence.existingClaim -}}
{{- if hasKey $claims . -}}
{{- printf "feeds.%s.persistence.existingClaim is that of feeds.%s: two bridges cannot share a journal\n" $feed.name (get $claims .) -}}
{{- end -}}
{{- $_ := set $claims . $feed.name -}}
{{- end -}}
{{- range $index, $sink := $feed.values.config.sinks -}}
{{- if $sink.exactly_once -}}
{{- $producer := default (printf "onboarding-bridge.%s.%s" $sink.topic $sink.name) $sink.transactional_id -}}
{{- $where := printf "%sconfig.sinks[%d]" $feed.at $index -}}
{{- if hasKey $producers $producer -}}
{{- printf "%s.transactional_id: %s is that of %s too, and each would shut the other out; give each its own\n" $where $producer (get $producers $producer) -}}
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
{{- printf "feeds: %d are too many for one address: the vendor allows it 10 connections%s, and each bridge needs 2; so at most %d, or vendorLimits.sharedAddress is false\n" $count $allowed.and (div $allowed.connections 2) -}}
{{- else if and .root.Values.vendorLimits.sharedAddress (or (gt $connections (int $allowed.connections)) (gt $requests (int $allowed.requests))) -}}
{{- printf "config.feed.limits: the %d feeds together may open %d connections and make %d requests a minute, and the vendor allows an address 10 and 40%s; set config.feed.limits to {connections: %d, requests_per_minute: %d}, or vendorLimits.sharedAddress to false if each has an address of its own\n" $count $connections $requests $allowed.and (div $allowed.connections $count) (div $allowed.requests $count) -}}
{{- end -}}
{{- end -}}
