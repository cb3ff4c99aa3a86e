// Command kubernetes is a cluster in one program. Its first argument says which part of it this process is; `up` runs
// all but the kubelet together, and `node` runs that with a containerd.
package main

import (
	"context"
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

const usage = `usage: kubernetes up FOLDER FORERUNNER-USER
       kubernetes node FOLDER IMAGE
       kubernetes etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubelet [FLAGS]`

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	part := os.Args[1]
	// Each part reads its own command line, as if it were a program by itself.
	os.Args = append([]string{part}, os.Args[2:]...)
	switch part {
	case "up":
		if len(os.Args) != 3 {
			fail(usage)
		}
		if err := up(os.Args[1], os.Args[2]); err != nil {
			fail(err)
		}
	case "node":
		if len(os.Args) != 3 {
			fail(usage)
		}
		if err := join(os.Args[1], os.Args[2]); err != nil {
			fail(err)
		}
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllers.NewControllerManagerCommand()))
	case "kube-scheduler":
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	case "kubelet":
		os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background())))
	default:
		fail("no such part: " + part + "\n" + usage)
	}
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
