package main

// What `sallyport init` writes for a real host. {{.…}} is initData.

// configText is sallyport.yaml: the few settings that a host needs; everything
// else keeps its default (`sallyport config show`).
const configText = `# Sallyport, process configuration. Every key has a default; "sallyport config show" lists them all,
# "sallyport config check" checks this file. What accounts may do is policy: "sallyport policy show".
state:
  dir: {{.StateDir}}
seal:
  kind: {{.Seal.Kind}}
{{- if eq .Seal.Kind "keyfile"}}
  # The systemd credential sallyport.key, where there is one, is used instead of this file.
  key_file: {{.KeyFile}}
{{- else if eq .Seal.Kind "transit"}}
  transit:
    address: {{printf "%q" .Seal.Transit.Address}}
    mount: {{printf "%q" .Seal.Transit.Mount}}
    namespace: {{printf "%q" .Seal.Transit.Namespace}}
    key: {{printf "%q" .Seal.Transit.Key}}
    token_file: {{printf "%q" .Seal.Transit.TokenFile}}
    ca_file: {{printf "%q" .Seal.Transit.CAFile}}
{{- else if eq .Seal.Kind "helper"}}
  helper:
    command:{{range .Seal.Helper}}
      - {{printf "%q" .}}{{end}}
{{- end}}
listeners:
{{- range .Listeners}}
  - {protocol: {{.Protocol}}, address: "{{.Address}}"}
{{- end}}
passive:
  ports: {{.PassivePorts}}   # open these in the firewall, too
  public_address: {{.PublicAddress}}   # behind NAT: the address that clients reach
# tls:
#   certificates:                 # without this a self-signed certificate is used
#     - {certificate: /etc/sallyport/tls/fullchain.pem, key: /etc/sallyport/tls/privkey.pem}
admin:
  socket: {{.Socket}}
# health:
#   address: unix:{{.HealthSocket}}   # for /healthz and /metrics; 127.0.0.1:PORT would let every user of this host in
`

// serviceText is the hardened unit. "systemd-analyze security" rates it 1.5 or better.
const serviceText = `# Written by "sallyport init".
[Unit]
Description=Sallyport FTPS and SFTP server
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart={{.Binary}} serve --config {{.ConfigFile}}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=2s
TimeoutStopSec=30s
LimitNOFILE=524288
LimitCORE=0

# Own user (sysusers.d/sallyport.conf), own directories. The seal key is read by systemd as root and
# handed over in memory: the service's user cannot read the file.
User=sallyport
Group=sallyport
{{- if .OwnStateDir}}
StateDirectory=sallyport
StateDirectoryMode=0700
{{- else}}
ReadWritePaths={{.StateDir}}
{{- end}}
RuntimeDirectory=sallyport
# Others may pass through, not look: the admin socket asks the kernel who calls (admin.uids, admin.unseal_uids).
RuntimeDirectoryMode=0711
{{if eq .Seal.Kind "keyfile"}}LoadCredential=sallyport.key:{{.KeyFile}}
{{end -}}
UMask=0077

# Ports below 1024, and nothing else. With the socket units this line and the next can go.
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE

NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProcSubset=pid
# Which start of the machine this is, to tell a restart of the server from one; ProcSubset hides it.
Environment=SALLYPORT_BOOT_ID=%b
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
DevicePolicy=closed
RemoveIPC=yes
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`

// socketText lets systemd open a port, so that the service needs no capability.
const socketText = `# Socket activation for {{.Protocol}}, written by "sallyport init" and not enabled. To use it:
#   1. in sallyport.yaml, write this listener's address as "systemd:{{.Protocol}}"
#   2. systemctl enable --now {{.Unit}}
#   3. systemctl restart sallyport.service
[Unit]
Description=Sallyport {{.Protocol}} port

[Socket]
ListenStream={{.Stream}}
FileDescriptorName={{.Protocol}}
Service=sallyport.service
Backlog=4096
NoDelay=yes

[Install]
WantedBy=sockets.target
`

// sysusersText makes the service's user (sysusers.d(5)).
const sysusersText = `# Written by "sallyport init".
u sallyport - "Sallyport file transfer" /var/lib/sallyport
`
