package session

import "container/list"

// recent is a map that keeps the most recently used entries. Not safe for concurrent use.
type recent[K comparable, V any] struct {
	max   int
	items map[K]*list.Element
	order *list.List // front = used last
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](most int) *recent[K, V] {
	return &recent[K, V]{max: most, items: map[K]*list.Element{}, order: list.New()}
}

func (r *recent[K, V]) get(k K) (v V, ok bool) {
	e, ok := r.items[k]
	if !ok {
		return v, false
	}
	r.order.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true
}

func (r *recent[K, V]) put(k K, v V) {
	if e, ok := r.items[k]; ok {
		e.Value.(*entry[K, V]).value = v
		r.order.MoveToFront(e)
		return
	}
	if len(r.items) >= r.max {
		last := r.order.Back()
		delete(r.items, last.Value.(*entry[K, V]).key)
		r.order.Remove(last)
	}
	r.items[k] = r.order.PushFront(&entry[K, V]{k, v})
}

func (r *recent[K, V]) remove(k K) bool {
	e, ok := r.items[k]
	if ok {
		r.order.Remove(e)
		delete(r.items, k)
	}
	return ok
}

func (r *recent[K, V]) all() []V {
	out := make([]V, 0, len(r.items))
	for e := r.order.Front(); e != nil; e = e.Next() {
		out = append(out, e.Value.(*entry[K, V]).value)
	}
	return out
}
