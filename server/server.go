// Package server assembles the parts: configuration, start and stop order, reload, metrics.
package server
