package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// usage is what the operating system accounted to a process, the children it
// has reaped, and its living descendants.
type usage struct {
	cpu    float64 // seconds, user + system
	memKiB int     // proportional set size of the living: pages that processes share count once
}

// clockTick is USER_HZ, 100 on every Linux port that Go supports.
const clockTick = 100

// treeUsage adds up the process tree below pid.
func treeUsage(pid int) (usage, error) {
	children, stats, err := processes()
	if err != nil {
		return usage{}, err
	}
	var u usage
	todo := []int{pid}
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = append(todo[:len(todo)-1], children[p]...)
		s, ok := stats[p]
		if !ok {
			continue
		}
		u.cpu += s.cpu
		u.memKiB += proportional(p)
	}
	if _, ok := stats[pid]; !ok {
		return u, fmt.Errorf("process %d has gone", pid)
	}
	return u, nil
}

func processes() (map[int][]int, map[int]usage, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, nil, err
	}
	children, stats := map[int][]int{}, map[int]usage{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		raw, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // gone meanwhile
		}
		// proc(5): the command name in parentheses may hold anything.
		f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+2:]))
		ppid, _ := strconv.Atoi(f[1])
		var ticks float64
		for _, s := range f[11:15] { // utime stime cutime cstime
			n, _ := strconv.ParseFloat(s, 64)
			ticks += n
		}
		children[ppid] = append(children[ppid], pid)
		stats[pid] = usage{cpu: ticks / clockTick}
	}
	return children, stats, nil
}

// proportional reads Pss of a process (proc(5), smaps_rollup), KiB; 0 when it has gone.
func proportional(pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}
