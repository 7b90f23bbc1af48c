// Package event reads recordings of event cameras, turns them into frames for spiking networks,
// and simulates event cameras on images.
package event
