// Command gitlab_runner is gitlab-runner as far as forerunner needs it: its own commands, protocol client, shells and
// Kubernetes executor, and as `gitlab-runner-helper` what its pods run.
package main

import (
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli"
	"gitlab.com/gitlab-org/gitlab-runner/commands"
	"gitlab.com/gitlab-org/gitlab-runner/commands/helpers"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/executors/custom"
	"gitlab.com/gitlab-org/gitlab-runner/executors/kubernetes"
	"gitlab.com/gitlab-org/gitlab-runner/log"
	"gitlab.com/gitlab-org/gitlab-runner/network"

	_ "gitlab.com/gitlab-org/gitlab-runner/shells"
)

func main() {
	app := cli.NewApp()
	app.Name = filepath.Base(os.Args[0])
	app.Version = common.AppVersion.ShortLine()
	app.Commands = offered()
	app.CommandNotFound = func(_ *cli.Context, name string) {
		logrus.Fatalln("there is no command", name)
	}
	log.ConfigureLogging(app)
	if err := app.Run(os.Args); err != nil {
		logrus.Fatal(err)
	}
}

func offered() []cli.Command {
	providers := executors.NewProviderRegistry(map[string]common.ExecutorProvider{
		"custom":                  custom.NewProvider("gitlab-runner"),
		common.ExecutorKubernetes: kubernetes.NewProvider(),
	})
	requests := network.NewAPIRequestsCollector()
	client := network.NewGitLabClient(
		network.WithAPIRequestsCollector(requests),
		network.WithExecutorProviderFunc(providers.GetByName),
	)
	return []cli.Command{
		commands.NewLintCommand(),
		commands.NewVerifyCommand(client),
		commands.NewRunCommand(client, requests, providers),
		helpers.NewReadLogsCommand(),
	}
}
