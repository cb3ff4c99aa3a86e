package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// Addresses of the node and its pods. The network namespace is the node's own, so they meet nobody else's.
const bridge, nodeAddress, nodeNetwork = "runners0", "10.88.0.1", "10.88.0.0/16"

// The cluster's own address, as pods know it; the first of the API server's --service-cluster-ip-range.
const serviceAddress = "10.96.0.1"

// Name of the node, and of the image whose process holds a pod's namespaces.
const nodeName, sandboxImage = "node", "forerunner.test/node:1"

// What a node says of itself: one line of JSON on standard output, once it is Ready.
type node struct {
	Name string `json:"name"`
	// Where its pods find it.
	Address string `json:"address"`
	// Socket of its containerd.
	Containerd string `json:"containerd"`
}

// join runs a node of the cluster at folder until standard input ends: containerd and kubelet. It needs namespaces of its
// own for network and mounts, with nothing in /run. image is the archive that the node starts its pods from.
func join(folder, image string) error {
	file := func(name string) string { return filepath.Join(folder, "node", name) }
	api, err := serverPort(filepath.Join(folder, "kubeconfig"))
	if err != nil {
		return err
	}
	found := node{Name: nodeName, Address: nodeAddress, Containerd: "/run/containerd/containerd.sock"}
	if err := layNode(file, found); err != nil {
		return err
	}
	if err := layNetwork(); err != nil {
		return err
	}
	failed := make(chan error, 3)
	// What kube-proxy does on other nodes, for the one service that pods need.
	go func() { failed <- forward(serviceAddress+":443", "127.0.0.1:"+api) }()
	go func() {
		failed <- run(file("containerd.log"), "containerd", exec.Command("containerd", "--config", file("containerd.toml")))
	}()
	if err := eventually("containerd imports its image", failed, func() error {
		return ctr(found.Containerd, "images", "import", image)
	}); err != nil {
		return err
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	go func() {
		failed <- run(file("kubelet.log"), "kubelet", exec.Command(own, "kubelet",
			"--config="+file("kubelet.json"), "--kubeconfig="+filepath.Join(folder, "kubeconfig"),
			"--root-dir="+file("kubelet"), "--cert-dir="+file("certificates"),
			"--hostname-override="+nodeName, "--node-ip="+nodeAddress))
	}()
	if err := eventually("the node is Ready", failed, func() error { return ready(folder) }); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		return err
	}
	left := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(left)
	}()
	select {
	case <-left:
		return nil
	case err := <-failed:
		return err
	}
}

// layNode writes what containerd, its network plugins and the kubelet read.
func layNode(file func(string) string, found node) error {
	for _, name := range []string{"cni", "certificates", "logs"} {
		if err := os.MkdirAll(file(name), 0o755); err != nil {
			return err
		}
	}
	containerd := fmt.Sprintf(`version = 2
root = %q
state = %q
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = %q
`, file("containerd"), file("state"), found.Containerd, sandboxImage, file("cni"))
	network := map[string]any{
		"cniVersion": "1.0.0",
		"name":       "pods",
		"plugins": []any{
			map[string]any{
				"type": "bridge", "bridge": bridge, "isGateway": true,
				"ipam": map[string]any{
					"type": "host-local", "dataDir": file("addresses"),
					"ranges": []any{[]any{map[string]any{"subnet": nodeNetwork, "gateway": nodeAddress}}},
					"routes": []any{map[string]any{"dst": "0.0.0.0/0"}},
				},
			},
		},
	}
	kubelet := map[string]any{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"address":                  nodeAddress,
		"authentication":           map[string]any{"anonymous": map[string]any{"enabled": true}, "webhook": map[string]any{"enabled": false}},
		"authorization":            map[string]any{"mode": "AlwaysAllow"},
		"cgroupDriver":             "cgroupfs",
		"cgroupsPerQOS":            false,
		"containerRuntimeEndpoint": "unix://" + found.Containerd,
		"enforceNodeAllocatable":   []string{},
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"makeIPTablesUtilChains":   false,
		"podLogsDir":               file("logs"),
		"healthzPort":              0,
		"resolvConf":               "",
		"readOnlyPort":             0,
		// A disk that is nearly full is not what is tested here.
		"evictionHard": map[string]string{"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%"},
	}
	networkText, err := json.Marshal(network)
	if err != nil {
		return err
	}
	kubeletText, err := json.Marshal(kubelet)
	if err != nil {
		return err
	}
	texts := map[string][]byte{
		"containerd.toml":   []byte(containerd),
		"cni/pods.conflist": networkText,
		"kubelet.json":      kubeletText,
	}
	for name, text := range texts {
		if err := os.WriteFile(file(name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// layNetwork makes the bridge that the node's pods are put on.
func layNetwork() error {
	for _, words := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", bridge, "type", "bridge"},
		{"address", "add", nodeAddress + "/16", "dev", bridge},
		{"address", "add", serviceAddress + "/32", "dev", "lo"},
		{"link", "set", bridge, "up"},
	} {
		if out, err := exec.Command("ip", words...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %v: %s", words, err, out)
		}
	}
	return nil
}

// forward passes every connection to an address on to another, until it cannot.
func forward(from, to string) error {
	listener, err := net.Listen("tcp", from)
	if err != nil {
		return err
	}
	for {
		inner, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer inner.Close()
			outer, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer outer.Close()
			go func() {
				_, _ = io.Copy(outer, inner)
				outer.Close()
			}()
			_, _ = io.Copy(inner, outer)
		}()
	}
}

// serverPort reads where the API server listens from a kubeconfig that up wrote.
func serverPort(kubeconfig string) (string, error) {
	config, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return "", err
	}
	server, err := url.Parse(config.Clusters["real"].Server)
	if err != nil {
		return "", err
	}
	return server.Port(), nil
}

// ready says whether the node takes pods.
func ready(folder string) error {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(folder, "kubeconfig"))
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	found, err := client.CoreV1().Nodes().Get(context.Background(), nodeName, meta.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range found.Status.Conditions {
		if condition.Type == core.NodeReady && condition.Status == core.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("it is not: %v", found.Status.Conditions)
}

func ctr(socket string, words ...string) error {
	words = append([]string{"--address", socket, "--namespace", "k8s.io"}, words...)
	if out, err := exec.Command("ctr", words...).CombinedOutput(); err != nil {
		return fmt.Errorf("ctr %v: %v: %s", words, err, out)
	}
	return nil
}

// eventually tries until it works, a part has failed, or patience ends.
func eventually(what string, failed <-chan error, try func() error) error {
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if last = try(); last == nil {
			return nil
		}
		select {
		case err := <-failed:
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("waited in vain until %s: %w", what, last)
}
