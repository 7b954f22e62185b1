{{/*
What people write, in numbers: spans of time and sizes, of the bridge and of Kubernetes.
*/}}

{{/* Milliseconds of a span such as `25s` or `1m 30s`, rounded up for each part. */}}
{{- define "onboarding-bridge.milliseconds" -}}
{{- $units := dict "ns" 0.000001 "us" 0.001 "ms" 1 "s" 1000 "sec" 1000 "second" 1000 "m" 60000 "min" 60000 "minute" 60000 "h" 3600000 "hr" 3600000 "hour" 3600000 "d" 86400000 "day" 86400000 -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+ *[a-z]+" (toString .) -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- if not (hasKey $units $unit) -}}{{- $unit = trimSuffix "s" $unit -}}{{- end -}}
{{- $total = add $total (mulf (regexFind "[0-9]+" . | int64) (get $units $unit | default 0) | ceil | int64) -}}
{{- end -}}
{{- $total -}}
{{- end -}}

{{/* Bytes of a size such as `8GiB`, `500MB`, `20Gi` or `1048576`. */}}
{{- define "onboarding-bridge.bytes" -}}
{{- $text := kindIs "string" . | ternary . (. | int64 | toString) -}}
{{- $unit := regexFind "[a-zA-Z]+" $text | lower | trimSuffix "b" -}}
{{- $units := dict "" 1 "k" 1000 "m" 1000000 "g" 1000000000 "t" 1000000000000 "ki" 1024 "mi" 1048576 "gi" 1073741824 "ti" 1099511627776 -}}
{{- mulf (regexFind "[0-9.]+" $text | float64) (get $units $unit | default 0) | int64 -}}
{{- end -}}
