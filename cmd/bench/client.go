package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

func run1(ctx context.Context, name string, args ...string) error {
	return runStdin(ctx, "", name, args...)
}

func runStdin(ctx context.Context, stdin, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = nil, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(out.String()))
	}
	return nil
}

// sftpClient is OpenSSH's sftp with its defaults.
type sftpClient struct{}

func (sftpClient) batch(ctx context.Context, j *job, lines []string) error {
	return runStdin(ctx, strings.Join(lines, "\n")+"\n", "sftp", "-q", "-b", "-", "-P", j.peer.port, "-i", j.peer.key,
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR", "-F", "none",
		j.peer.user+"@"+j.peer.host)
}

func (c sftpClient) put(ctx context.Context, j *job, pairs [][2]string) error {
	var lines []string
	for _, p := range pairs {
		lines = append(lines, fmt.Sprintf("put %s %s", p[0], p[1]))
	}
	return c.batch(ctx, j, lines)
}

func (c sftpClient) get(ctx context.Context, j *job, pairs [][2]string) error {
	var lines []string
	for _, p := range pairs {
		lines = append(lines, fmt.Sprintf("get %s %s", p[0], p[1]))
	}
	return c.batch(ctx, j, lines)
}

func (c sftpClient) list(ctx context.Context, j *job, dir string) error {
	return c.batch(ctx, j, []string{"ls -l " + dir})
}

func (c sftpClient) mkdir(ctx context.Context, j *job, dir string) error {
	return c.batch(ctx, j, []string{"mkdir " + dir})
}

// curlClient is curl over explicit FTPS, TLS 1.3 where the server has it.
type curlClient struct{}

func (curlClient) run(ctx context.Context, j *job, conf string, args ...string) error {
	args = append(args, "-sS", "-k", "--ssl-reqd", "-u", j.peer.user+":"+j.peer.password, "--config", "-")
	return runStdin(ctx, conf, "curl", args...)
}

func (curlClient) url(j *job, path string) string {
	// A second slash makes the path absolute (RFC 1738, section 3.2.2).
	return fmt.Sprintf("ftp://%s:%s/%s", j.peer.host, j.peer.port, strings.Replace(path, "/", "%2F", 1))
}

func (c curlClient) put(ctx context.Context, j *job, pairs [][2]string) error {
	var conf strings.Builder
	for _, p := range pairs {
		fmt.Fprintf(&conf, "upload-file = %q\nurl = %q\n", p[0], c.url(j, p[1]))
	}
	return c.run(ctx, j, conf.String())
}

func (c curlClient) get(ctx context.Context, j *job, pairs [][2]string) error {
	var conf strings.Builder
	for _, p := range pairs {
		fmt.Fprintf(&conf, "url = %q\noutput = %q\n", c.url(j, p[0]), p[1])
	}
	return c.run(ctx, j, conf.String())
}

func (c curlClient) list(ctx context.Context, j *job, dir string) error {
	return c.run(ctx, j, fmt.Sprintf("url = %q\noutput = %q\n", c.url(j, strings.TrimSuffix(dir, "/")+"/"), os.DevNull))
}

func (c curlClient) mkdir(ctx context.Context, j *job, dir string) error {
	return c.run(ctx, j, fmt.Sprintf("url = %q\nquote = %q\noutput = %q\n", c.url(j, j.peer.base), "MKD "+dir, os.DevNull))
}
