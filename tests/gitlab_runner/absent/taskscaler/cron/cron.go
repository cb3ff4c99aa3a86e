// Package cron would read the schedules of the autoscaler.
package cron

import (
	"errors"
	"time"
)

type Schedule struct{}

func Parse(string, string) (Schedule, error) {
	return Schedule{}, errors.New("schedules of the autoscaler are absent from this build")
}

func (Schedule) Contains(time.Time) bool { return false }
