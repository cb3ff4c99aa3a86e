package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Issuer is what service-account tokens carry as iss.
const issuer = "https://kubernetes.example.com"

// How long the parts get until they serve.
const patience = 90 * time.Second

// Made up, and good for this cluster alone.
const administrator, forerunner = "made-up-administrator", "made-up-forerunner"

// Metadata of every request, once it is answered.
const auditPolicy = `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}]}`

// cluster is what whoever starts one gets to know: one line of JSON on standard output, once everything serves.
type cluster struct {
	Server string `json:"server"`
	// PEM file of what the server's certificate is checked against.
	Authority          string `json:"authority"`
	AdministratorToken string `json:"administratorToken"`
	// Of the user that forerunnerUser names, who has no right yet.
	ForerunnerToken string `json:"forerunnerToken"`
	ForerunnerUser  string `json:"forerunnerUser"`
	Issuer          string `json:"issuer"`
	AuditLog        string `json:"auditLog"`
	// An administrator's kubeconfig.
	Kubeconfig string `json:"kubeconfig"`
}

// up runs a whole cluster below folder until standard input ends, and does what its lines ask for (see obey). Its parts die with it, however it dies.
func up(folder, forerunnerUser string) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	etcd, peers, secure := ports[0], ports[1], ports[2]
	file := func(name string) string { return filepath.Join(folder, name) }
	found := cluster{
		Server:             fmt.Sprintf("https://127.0.0.1:%d", secure),
		Authority:          file("certificates/apiserver.crt"),
		AdministratorToken: administrator,
		ForerunnerToken:    forerunner,
		ForerunnerUser:     forerunnerUser,
		Issuer:             issuer,
		AuditLog:           file("audit.log"),
		Kubeconfig:         file("kubeconfig"),
	}
	if err := lay(found, file); err != nil {
		return err
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	client := fmt.Sprintf("http://127.0.0.1:%d", etcd)
	peer := fmt.Sprintf("http://127.0.0.1:%d", peers)
	failed := make(chan error, 4)
	start := func(part string, arguments ...string) {
		command := exec.Command(own, append([]string{part}, arguments...)...)
		go func() { failed <- run(file(part+".log"), part, command) }()
	}
	start("etcd",
		"--data-dir="+file("etcd"), "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
	start("kube-apiserver",
		"--etcd-servers="+client, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", secure), "--cert-dir="+file("certificates"),
		"--token-auth-file="+file("tokens.csv"), "--authorization-mode=RBAC", "--allow-privileged=true",
		"--service-account-issuer="+issuer, "--service-account-signing-key-file="+file("account.key"),
		"--service-account-key-file="+file("account.key"), "--service-cluster-ip-range=10.96.0.0/24",
		"--endpoint-reconciler-type=none", "--kubelet-preferred-address-types=InternalIP",
		"--audit-policy-file="+file("audit-policy.json"), "--audit-log-path="+found.AuditLog)
	if err := await(found, "/readyz", failed); err != nil {
		return err
	}
	start("kube-controller-manager",
		"--kubeconfig="+found.Kubeconfig, "--service-account-private-key-file="+file("account.key"),
		"--root-ca-file="+found.Authority, "--leader-elect=false", "--secure-port=0",
		// A node that is played has no kubelet to send heartbeats.
		"--node-monitor-grace-period=24h")
	start("kube-scheduler", "--kubeconfig="+found.Kubeconfig, "--leader-elect=false", "--secure-port=0")
	if err := await(found, "/api/v1/namespaces/default/serviceaccounts/default", failed); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		return err
	}
	left := make(chan struct{})
	go func() {
		// Its end is the end of whoever started us.
		for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
			if err := obey(asked.Text(), client); err != nil {
				failed <- err
			}
		}
		close(left)
	}()
	select {
	case <-left:
		// Nobody will look at its logs: all went well, or they were shown.
		return os.RemoveAll(folder)
	case err := <-failed:
		return err
	}
}

// Where API servers tell each other which revision was compacted last.
const compactedKey = "compact_rev_key"

// obey does what a line on standard input asks for, and answers with a line of JSON. There is one thing to ask for:
// "compact" takes away every revision up to now, which the API server does every five minutes.
func obey(asked, etcd string) error {
	if asked != "compact" {
		return fmt.Errorf("nobody knows how to %q", asked)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd}, DialTimeout: patience})
	if err != nil {
		return err
	}
	defer client.Close()
	context, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// A revision after whatever anybody was told, then the same again as what others read.
	put, err := client.Put(context, compactedKey, "0")
	if err != nil {
		return err
	}
	last := put.Header.Revision
	if _, err := client.Compact(context, last); err != nil {
		return err
	}
	if _, err := client.Put(context, compactedKey, strconv.FormatInt(last, 10)); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]int64{"compacted": last})
}

// lay writes the files that the parts read.
func lay(found cluster, file func(string) string) error {
	if err := os.MkdirAll(file("certificates"), 0o700); err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	tokens := fmt.Sprintf("%s,administrator,1,\"system:masters\"\n%s,%s,2\n", administrator, forerunner, found.ForerunnerUser)
	kubeconfig := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "real",
"clusters": [{"name": "real", "cluster": {"server": %q, "certificate-authority": %q}}],
"users": [{"name": "administrator", "user": {"token": %q}}],
"contexts": [{"name": "real", "context": {"cluster": "real", "user": "administrator"}}]}
`, found.Server, found.Authority, administrator)
	texts := map[string][]byte{
		"account.key":       pem.EncodeToMemory(block),
		"tokens.csv":        []byte(tokens),
		"audit-policy.json": []byte(auditPolicy),
		"kubeconfig":        []byte(kubeconfig),
	}
	for name, text := range texts {
		if err := os.WriteFile(file(name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// run is one part as a process of its own; it ends only by failing, or with us.
func run(log, part string, command *exec.Cmd) error {
	out, err := os.Create(log)
	if err != nil {
		return err
	}
	defer out.Close()
	// A part dies with the thread that started it: this one waits for it.
	runtime.LockOSThread()
	command.Stdout, command.Stderr = out, out
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = command.Run()
	return fmt.Errorf("%s ended (%v); its log is %s", part, err, log)
}

// await asks the server for a path until it answers 200.
func await(found cluster, path string, failed <-chan error) error {
	client := http.Client{
		Timeout: 5 * time.Second,
		// Whether it serves is all that is asked here; the tests check its certificate.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	request, err := http.NewRequest(http.MethodGet, found.Server+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+administrator)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if response, err := client.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-failed:
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
	return errors.New("the API server does not answer 200 to " + path)
}

func freePorts(count int) ([]int, error) {
	var ports []int
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
