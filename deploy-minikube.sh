#!/usr/bin/env bash
# The user-tracking recipe on minikube.
#
#   deploy-minikube.sh deploy    starts minikube if need be, builds the image inside of it, applies deploy/kubernetes,
#                                waits until everything is ready, and says how to reach each service
#   deploy-minikube.sh clean     removes everything that it made
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly namespace=scalable-services
readonly folder=deploy/kubernetes
readonly image=tidemill:local
readonly patience=${PATIENCE:-600s}

fail() {
  echo "deploy-minikube.sh: $*" >&2
  exit 1
}

needs() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || fail "\`$program\` is not installed; it must be in PATH"
  done
}

deploy() {
  needs minikube kubectl
  if minikube status >/dev/null 2>&1; then
    echo "minikube runs already"
  else
    minikube start --cpus="${CPUS:-4}" --memory="${MEMORY:-8g}"
  fi
  # Autoscaling asks it for figures.
  minikube addons enable metrics-server

  if [[ ! -f $folder/secrets.env ]]; then
    echo "choosing a password for $folder/secrets.env"
    (umask 077 && printf 'POSTGRES_PASSWORD=%s\n' "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" >"$folder/secrets.env")
  fi

  echo "building $image inside of minikube"
  minikube image build --tag "$image" .

  kubectl apply -k "$folder"
  local resource
  for resource in statefulset/kafka statefulset/postgres \
    deployment/collector deployment/processor deployment/api deployment/demo deployment/adminer; do
    kubectl --namespace "$namespace" rollout status "$resource" --timeout="$patience"
  done

  cat <<EOF

Ready. Each of these reaches one of the services until it is ended with Ctrl-C:

  demo        kubectl --namespace $namespace port-forward service/demo 3000:3000       http://127.0.0.1:3000/demo
  collector   kubectl --namespace $namespace port-forward service/collector 8000:8000  http://127.0.0.1:8000/track
  events      kubectl --namespace $namespace port-forward service/api 8001:8001        http://127.0.0.1:8001/events
  Adminer     kubectl --namespace $namespace port-forward service/adminer 8080:8080    http://127.0.0.1:8080

Adminer's server is \`postgres\`, the user \`user\`, the database \`tracking_db\`, the password is in $folder/secrets.env.
EOF
}

clean() {
  needs minikube kubectl
  kubectl delete namespace "$namespace" --ignore-not-found --wait --timeout="$patience"
  minikube image rm "$image" || true
  # The password of a database that is gone.
  rm -f "$folder/secrets.env"
  echo "the namespace $namespace is gone; \`minikube stop\` ends minikube itself"
}

case ${1:-} in
  deploy) deploy ;;
  clean) clean ;;
  *)
    echo "usage: deploy-minikube.sh deploy | clean" >&2
    exit 2
    ;;
esac
